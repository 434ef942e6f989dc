variable "name" {
  description = "What it is called, 25 characters at most."
  type        = string
}

variable "vpc_id" {
  description = "The VPC of its targets."
  type        = string
}

variable "subnet_ids" {
  description = "The subnets that it stands in."
  type        = list(string)
}

variable "security_group_id" {
  description = "Its security group."
  type        = string
}

variable "internal" {
  description = "Whether it has addresses inside of the network only."
  type        = bool
}

variable "dual_stack" {
  description = "Whether it has IPv6 addresses too."
  type        = bool
}

variable "with_plain_http" {
  description = "Whether it listens on 80 and 8080."
  type        = bool
}

variable "drain_seconds" {
  description = "Seconds that a server which leaves keeps its connections for."
  type        = number
}

variable "deletion_protection" {
  description = "Whether it refuses to be deleted."
  type        = bool
}
