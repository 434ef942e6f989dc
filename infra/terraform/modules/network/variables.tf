variable "name" {
  description = "What is made is called by it."
  type        = string
}

variable "vpc_id" {
  description = "The VPC to stand in; null makes one."
  type        = string
}

variable "subnet_ids" {
  description = "The subnets that servers stand in; none makes them."
  type        = set(string)
}

variable "balancer_subnet_ids" {
  description = "The subnets that the balancer stands in, where they are not those of the servers."
  type        = set(string)
}

variable "cidr" {
  description = "The IPv4 range of what is made: of the VPC, or of the subnets in a VPC that is given."
  type        = string
}

variable "ipv6_offset" {
  description = "The first /64 that made subnets take of the VPC's /56; they take 16 from there on."
  type        = number
}

variable "zones" {
  description = "In how many availability zones subnets are made."
  type        = number
}

variable "nat_per_zone" {
  description = "Whether each zone has a NAT gateway of its own, or all share one."
  type        = bool
}

variable "dual_stack" {
  description = "Whether subnets have IPv6 ranges too."
  type        = bool
}
