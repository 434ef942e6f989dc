output "task_role_arn" {
  description = "The role of a running server."
  value       = aws_iam_role.task.arn
}

output "execution_role_arn" {
  description = "The role by which ECS starts one."
  value       = aws_iam_role.execution.arn
}

output "task_policy" {
  description = "What a running server may do, JSON."
  value       = local.task_policy
}

output "execution_policy" {
  description = "What ECS may do to start one, JSON."
  value       = local.execution_policy
}

output "bootstrap_policy" {
  description = "What bootstrap may do, JSON."
  value       = local.bootstrap_policy
}

output "bootstrap_policy_arn" {
  description = "The policy to attach to whoever runs bootstrap."
  value       = aws_iam_policy.bootstrap.arn
}
