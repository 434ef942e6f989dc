output "names" {
  description = "The full name of each table, by its own."
  value       = { for name, table in aws_dynamodb_table.this : name => table.name }
}

output "arns" {
  description = "The ARN of each table, by its own name."
  value       = { for name, table in aws_dynamodb_table.this : name => table.arn }
}
