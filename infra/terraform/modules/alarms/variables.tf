variable "name" {
  description = "What stands before each alarm's name."
  type        = string
}

variable "topic_arns" {
  description = "SNS topics, or other targets, that are told of an alarm and of its end."
  type        = list(string)
}

variable "balancer" {
  description = "What CloudWatch calls the balancer."
  type        = string
}

variable "target_groups" {
  description = "What CloudWatch calls each group of targets."
  type        = map(string)
}

variable "cluster" {
  description = "The ECS cluster."
  type        = string
}

variable "service" {
  description = "The ECS service."
  type        = string
}

variable "tables" {
  description = "The full name of each table, by its own."
  type        = map(string)
}

variable "log_group" {
  description = "Where servers log."
  type        = string
}

variable "reset_threshold" {
  description = "Connections reset in a minute, of servers or of the balancer, above which it is told."
  type        = number
  default     = 50
}

variable "blocked_threshold" {
  description = "Connections in a minute that the security group refused, above which it is told."
  type        = number
  default     = 1000
}
