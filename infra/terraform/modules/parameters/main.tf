# What servers start from. Terraform makes the parameters, bootstrap fills them: a server refuses a placeholder by name.

locals {
  types = {
    ca-cert     = "String"
    server-cert = "String"
    server-key  = "SecureString"
  }
}

resource "aws_ssm_parameter" "this" {
  #checkov:skip=CKV2_AWS_34:Certificates are public; the key is a SecureString
  for_each = local.types

  name        = "/airunner/${var.environment}/${each.key}"
  description = "airunner ${var.environment}: ${each.key}, written by airunner-cli bootstrap"
  type        = each.value
  key_id      = each.value == "SecureString" ? var.encryption_key_arn : null
  value       = "placeholder"

  tags = { Name = "/airunner/${var.environment}/${each.key}" }

  lifecycle {
    # The value is bootstrap's, and a bundle of several roots may have grown it out of the standard tier.
    ignore_changes = [value, tier]
  }
}
