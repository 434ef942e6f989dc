output "dns_name" {
  description = "What the environment's domain must point to, by alias or CNAME."
  value       = aws_lb.this.dns_name
}

output "zone_id" {
  description = "The hosted zone of `dns_name`, for an alias record."
  value       = aws_lb.this.zone_id
}

output "metric_name" {
  description = "What CloudWatch calls it."
  value       = aws_lb.this.arn_suffix
}

output "targets" {
  description = "For each listener of a server: its port, its target group, and what CloudWatch calls that."
  value = {
    for name, group in aws_lb_target_group.this :
    name => { port = group.port, arn = group.arn, metric_name = group.arn_suffix }
  }

  # ECS refuses a service whose target group no balancer uses yet.
  depends_on = [aws_lb_listener.this]
}
