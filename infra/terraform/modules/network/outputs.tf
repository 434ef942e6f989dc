output "vpc_id" {
  description = "The VPC."
  value       = local.vpc_id
}

output "balancer_subnet_ids" {
  description = "Where the balancer stands."
  value       = local.make_subnets ? [for subnet in aws_subnet.public : subnet.id] : sort(keys(data.aws_subnet.balancer))
}

output "balancer_cidrs" {
  description = "Where the balancer's connections come from."
  value       = local.make_subnets ? [for subnet in aws_subnet.public : subnet.cidr_block] : [for subnet in data.aws_subnet.balancer : subnet.cidr_block]
}

output "server_subnet_ids" {
  description = "Where servers stand."
  value       = local.make_subnets ? [for subnet in aws_subnet.private : subnet.id] : sort(var.subnet_ids)
}
