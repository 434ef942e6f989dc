# Where `bootstrap --signer file` keeps the CA's key. With the root in KMS it stays empty. Terraform never writes a
# value, and so no state holds one.

data "aws_caller_identity" "current" {}

resource "aws_secretsmanager_secret" "ca_key" {
  #checkov:skip=CKV2_AWS_57:A root CA's key is rotated in phases that clients take part in, and never by a timer
  name                    = "/airunner/${var.environment}/ca-key"
  description             = "airunner ${var.environment}: the root CA's key, where it is no KMS key"
  kms_key_id              = var.encryption_key_arn
  recovery_window_in_days = var.recovery_window_days

  tags = { Name = "/airunner/${var.environment}/ca-key" }
}

resource "aws_secretsmanager_secret_policy" "ca_key" {
  secret_arn          = aws_secretsmanager_secret.ca_key.arn
  block_public_policy = true

  # Denials alone: what they leave open, an IAM policy must still allow. They name the acts on the value, so that the
  # account can always mend the policy itself.
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Sid       = "OnlyBootstrapTouchesTheValue"
        Effect    = "Deny"
        Principal = "*"
        Action = [
          "secretsmanager:BatchGetSecretValue",
          "secretsmanager:GetSecretValue",
          "secretsmanager:PutSecretValue",
          "secretsmanager:UpdateSecret",
        ]
        Resource  = "*"
        Condition = { ArnNotLike = { "aws:PrincipalArn" = local.readers } }
      },
      {
        Sid       = "NobodyOfOtherAccounts"
        Effect    = "Deny"
        Principal = "*"
        Action    = "secretsmanager:*"
        Resource  = "*"
        Condition = { StringNotEquals = { "aws:PrincipalAccount" = data.aws_caller_identity.current.account_id } }
      },
      {
        Sid       = "NothingInTheClear"
        Effect    = "Deny"
        Principal = "*"
        Action    = "secretsmanager:*"
        Resource  = "*"
        Condition = { Bool = { "aws:SecureTransport" = "false" } }
      },
    ]
  })
}

locals {
  # A condition with no value at all is refused: this is the ARN of nobody.
  nobody  = "arn:aws:iam::000000000000:role/nobody"
  readers = length(var.bootstrap_principal_arns) > 0 ? sort(var.bootstrap_principal_arns) : [local.nobody]
}
