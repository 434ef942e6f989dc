output "cluster_name" {
  description = "The cluster's name."
  value       = local.cluster_name
}

output "service_name" {
  description = "The service's name."
  value       = aws_ecs_service.this.name
}

output "task_family" {
  description = "The family of its task definitions."
  value       = aws_ecs_task_definition.this.family
}

output "log_group" {
  description = "Where servers log."
  value       = aws_cloudwatch_log_group.this.name
}
