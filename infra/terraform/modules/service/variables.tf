variable "name" {
  description = "What service, cluster and task family are called."
  type        = string
}

variable "cluster_arn" {
  description = "The ECS cluster to run in; null makes one."
  type        = string
}

variable "image" {
  description = "The image of the server."
  type        = string
}

variable "cpu" {
  description = "Processor units of a server; 1024 are one."
  type        = number
}

variable "memory" {
  description = "Memory of a server, MiB."
  type        = number
}

variable "cpu_architecture" {
  description = "X86_64 or ARM64."
  type        = string
}

variable "min_servers" {
  description = "Servers at least."
  type        = number
}

variable "max_servers" {
  description = "Servers at most."
  type        = number
}

variable "drain_seconds" {
  description = "Seconds that a server which was told to stop takes for its open calls."
  type        = number
}

variable "environment" {
  description = "Settings of the server, by variable."
  type        = map(string)
}

variable "secrets" {
  description = "ARNs of the parameters that fill variables, by variable."
  type        = map(string)
}

variable "execution_role_arn" {
  description = "The role by which ECS starts a server."
  type        = string
}

variable "task_role_arn" {
  description = "The role that a server has."
  type        = string
}

variable "subnet_ids" {
  description = "The subnets that servers stand in."
  type        = list(string)
}

variable "security_group_id" {
  description = "The servers' security group."
  type        = string
}

variable "targets" {
  description = "Target groups of the balancer, with the port that each leads to."
  type        = map(object({ port = number, arn = string }))
}

variable "log_days" {
  description = "Days for which logs are kept."
  type        = number
}

variable "encryption_key_arn" {
  description = "A KMS key to encrypt logs with; null is CloudWatch's own."
  type        = string
  default     = null
}
