variable "environment" {
  description = "The environment's name."
  type        = string
}

variable "encryption_key_arn" {
  description = "A KMS key to encrypt the server's key with; null is the one that AWS keeps for SSM."
  type        = string
  default     = null
}
