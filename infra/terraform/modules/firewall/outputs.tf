output "balancer_id" {
  description = "The balancer's group."
  value       = aws_security_group.balancer.id
}

output "server_id" {
  description = "The servers' group."
  value       = aws_security_group.server.id
}
