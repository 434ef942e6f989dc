output "arn" {
  description = "The secret."
  value       = aws_secretsmanager_secret.ca_key.arn
}

output "name" {
  description = "The secret's name."
  value       = aws_secretsmanager_secret.ca_key.name
}

output "policy" {
  description = "Its resource policy, JSON."
  value       = aws_secretsmanager_secret_policy.ca_key.policy
}
