output "balancer_dns_name" {
  description = "What the domain must point to, by alias or CNAME."
  value       = module.balancer.dns_name
}

output "balancer_zone_id" {
  description = "The hosted zone of balancer_dns_name, for an alias record."
  value       = module.balancer.zone_id
}

output "tables" {
  description = "The full name of each table, by its own."
  value       = module.tables.names
}

output "keys" {
  description = "The aliases of the KMS keys."
  value       = module.keys.aliases
}

output "parameters" {
  description = "The SSM parameters that bootstrap fills."
  value       = module.parameters.names
}

output "ca_key_secret" {
  description = "The secret that `bootstrap --signer file` fills."
  value       = module.secret.name
}

output "bucket" {
  description = "The bucket of output and journal."
  value       = module.storage.name
}

output "cluster" {
  description = "The ECS cluster."
  value       = module.service.cluster_name
}

output "service" {
  description = "The ECS service."
  value       = module.service.service_name
}

output "task_family" {
  description = "The family of task definitions."
  value       = module.service.task_family
}

output "log_group" {
  description = "Where servers log."
  value       = module.service.log_group
}

output "task_role_arn" {
  description = "The role of a running server."
  value       = module.iam.task_role_arn
}

output "execution_role_arn" {
  description = "The role by which ECS starts a server."
  value       = module.iam.execution_role_arn
}

output "bootstrap_policy_arn" {
  description = "The policy to attach to whoever runs bootstrap."
  value       = module.iam.bootstrap_policy_arn
}

output "bootstrap_policy" {
  description = "The same, as JSON."
  value       = module.iam.bootstrap_policy
}

output "server_environment" {
  description = "What servers are told, by variable."
  value       = local.server_environment
}

output "alarms" {
  description = "The alarms."
  value       = module.alarms.names
}

output "vpc_id" {
  description = "The VPC that it stands in."
  value       = module.network.vpc_id
}
