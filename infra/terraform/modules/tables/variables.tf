variable "name_prefix" {
  description = "What stands before each table's name: PREFIX_ENVIRONMENT."
  type        = string
}

variable "deletion_protection" {
  description = "Whether tables refuse to be deleted."
  type        = bool
}

variable "encryption_key_arn" {
  description = "A KMS key to encrypt the tables with; null is the one that AWS keeps for DynamoDB."
  type        = string
  default     = null
}
