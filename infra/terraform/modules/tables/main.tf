# The DynamoDB tables, as crates/aws/src/tables.rs describes them. tables.json is written out of it by
# `make terraform-generate`; a test of that crate fails where the two differ.

locals {
  tables = jsondecode(file("${path.module}/tables.json"))

  # DynamoDB wants each attribute that is in some key declared once, and no other.
  attributes = {
    for name, table in local.tables : name => merge([
      for attribute in flatten([
        for key in concat([table], values(table.indexes)) : [for part in [key.hash, key.range] : part if part != null]
      ]) : { (attribute.name) = attribute.type }
    ]...)
  }
}

resource "aws_dynamodb_table" "this" {
  for_each = local.tables

  name                        = "${var.name_prefix}_${each.key}"
  billing_mode                = "PAY_PER_REQUEST"
  hash_key                    = each.value.hash.name
  range_key                   = try(each.value.range.name, null)
  deletion_protection_enabled = var.deletion_protection

  dynamic "attribute" {
    for_each = local.attributes[each.key]
    content {
      name = attribute.key
      type = attribute.value
    }
  }

  dynamic "global_secondary_index" {
    for_each = each.value.indexes
    iterator = index
    content {
      name               = index.key
      hash_key           = index.value.hash.name
      range_key          = try(index.value.range.name, null)
      projection_type    = index.value.projection
      non_key_attributes = length(index.value.attributes) > 0 ? index.value.attributes : null
    }
  }

  dynamic "ttl" {
    for_each = each.value.ttl[*]
    content {
      enabled        = true
      attribute_name = ttl.value
    }
  }

  point_in_time_recovery {
    enabled = true
  }

  server_side_encryption {
    enabled     = true
    kms_key_arn = var.encryption_key_arn
  }

  tags = { Name = "${var.name_prefix}_${each.key}" }
}
