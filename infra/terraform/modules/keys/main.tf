# The keys of the environment: the root CA's, the issuing CA's where that is in KMS too, and the key under which the
# data keys of the store are wrapped. Who may use them is written in ../iam, but for the account itself, without whose
# statement IAM policies would count for nothing here.

data "aws_caller_identity" "current" {}
data "aws_partition" "current" {}

locals {
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Sid       = "IamDecides"
      Effect    = "Allow"
      Principal = { AWS = "arn:${data.aws_partition.current.partition}:iam::${data.aws_caller_identity.current.account_id}:root" }
      Action    = "kms:*"
      Resource  = "*"
    }]
  })
}

resource "aws_kms_key" "root" {
  description              = "airunner ${var.environment}: root CA"
  customer_master_key_spec = var.ca_key_spec
  key_usage                = "SIGN_VERIFY"
  deletion_window_in_days  = var.deletion_window_days
  policy                   = local.policy

  tags = { Name = "airunner-${var.environment}-ca" }
}

resource "aws_kms_alias" "root" {
  name          = "alias/airunner-${var.environment}-ca"
  target_key_id = aws_kms_key.root.key_id
}

resource "aws_kms_key" "issuing" {
  count = var.issuing ? 1 : 0

  description              = "airunner ${var.environment}: issuing CA"
  customer_master_key_spec = var.ca_key_spec
  key_usage                = "SIGN_VERIFY"
  deletion_window_in_days  = var.deletion_window_days
  policy                   = local.policy

  tags = { Name = "airunner-${var.environment}-issuing" }
}

resource "aws_kms_alias" "issuing" {
  count = var.issuing ? 1 : 0

  name          = "alias/airunner-${var.environment}-issuing"
  target_key_id = aws_kms_key.issuing[0].key_id
}

resource "aws_kms_key" "sealing" {
  description             = "airunner ${var.environment}: wraps the data keys of the store"
  enable_key_rotation     = true
  deletion_window_in_days = var.deletion_window_days
  policy                  = local.policy

  tags = { Name = "airunner-${var.environment}-sealing" }
}

resource "aws_kms_alias" "sealing" {
  name          = "alias/airunner-${var.environment}-sealing"
  target_key_id = aws_kms_key.sealing.key_id
}
