output "arns" {
  description = "The ARN of each parameter, by the end of its name."
  value       = { for name, parameter in aws_ssm_parameter.this : name => parameter.arn }
}

output "names" {
  description = "The full name of each parameter, by its end."
  value       = { for name, parameter in aws_ssm_parameter.this : name => parameter.name }
}
