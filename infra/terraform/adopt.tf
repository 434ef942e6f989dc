# Takes over what `airunner-cli bootstrap --create` made before Terraform came. What is in the state already is left
# alone, so that `adopt` may stay on.

locals {
  adopts = { for kind in ["tables", "root_key", "issuing_key", "sealing_key", "parameters", "secret", "bucket"] : kind => var.adopt && contains(var.adopt_kinds, kind) }

  adopted_keys = { for kind, alias in {
    root_key    = "alias/${local.name}-ca"
    issuing_key = "alias/${local.name}-issuing"
    sealing_key = "alias/${local.name}-sealing"
  } : kind => alias if local.adopts[kind] }

  # A name alone says which table it is; of keys and secrets Terraform wants the id.
  adopted = {
    tables     = local.adopts.tables ? keys(jsondecode(file("${path.module}/modules/tables/tables.json"))) : []
    root       = { for kind, alias in data.aws_kms_alias.adopted : alias.name => alias.target_key_id if kind == "root_key" }
    issuing    = { for kind, alias in data.aws_kms_alias.adopted : alias.name => alias.target_key_id if kind == "issuing_key" }
    sealing    = { for kind, alias in data.aws_kms_alias.adopted : alias.name => alias.target_key_id if kind == "sealing_key" }
    parameters = local.adopts.parameters ? ["ca-cert", "server-cert", "server-key"] : []
    buckets    = local.adopts.bucket ? [local.bucket_name] : []
  }
}

data "aws_kms_alias" "adopted" {
  for_each = local.adopted_keys
  name     = each.value
}

data "aws_secretsmanager_secret" "adopted" {
  count = local.adopts.secret ? 1 : 0
  name  = "/airunner/${var.environment}/ca-key"
}

import {
  for_each = toset(local.adopted.tables)
  to       = module.tables.aws_dynamodb_table.this[each.key]
  id       = "${var.table_prefix}_${var.environment}_${each.key}"
}

import {
  for_each = local.adopted.root
  to       = module.keys.aws_kms_key.root
  id       = each.value
}

import {
  for_each = local.adopted.root
  to       = module.keys.aws_kms_alias.root
  id       = each.key
}

import {
  for_each = local.adopted.issuing
  to       = module.keys.aws_kms_key.issuing[0]
  id       = each.value
}

import {
  for_each = local.adopted.issuing
  to       = module.keys.aws_kms_alias.issuing[0]
  id       = each.key
}

import {
  for_each = local.adopted.sealing
  to       = module.keys.aws_kms_key.sealing
  id       = each.value
}

import {
  for_each = local.adopted.sealing
  to       = module.keys.aws_kms_alias.sealing
  id       = each.key
}

import {
  for_each = toset(local.adopted.parameters)
  to       = module.parameters.aws_ssm_parameter.this[each.key]
  id       = "/airunner/${var.environment}/${each.key}"
}

import {
  for_each = toset(data.aws_secretsmanager_secret.adopted[*].arn)
  to       = module.secret.aws_secretsmanager_secret.ca_key
  id       = each.value
}

import {
  for_each = toset(local.adopted.buckets)
  to       = module.storage.aws_s3_bucket.this
  id       = each.value
}
