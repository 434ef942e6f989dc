output "root_arn" {
  description = "The root CA's key."
  value       = aws_kms_key.root.arn
}

output "issuing_arn" {
  description = "The issuing CA's key; null where it is not in KMS."
  value       = one(aws_kms_key.issuing[*].arn)
}

output "sealing_arn" {
  description = "The key that wraps the data keys of the store."
  value       = aws_kms_key.sealing.arn
}

output "aliases" {
  description = "What the keys are called."
  value = {
    root    = aws_kms_alias.root.name
    issuing = one(aws_kms_alias.issuing[*].name)
    sealing = aws_kms_alias.sealing.name
  }
}
