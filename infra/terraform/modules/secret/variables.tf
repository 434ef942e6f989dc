variable "environment" {
  description = "The environment's name."
  type        = string
}

variable "bootstrap_principal_arns" {
  description = "Roles and users that may read and write the value; with none, nobody may."
  type        = set(string)
}

variable "encryption_key_arn" {
  description = "A KMS key to encrypt the secret with; null is the one that AWS keeps for Secrets Manager."
  type        = string
  default     = null
}

variable "recovery_window_days" {
  description = "Days within which a deleted secret can be had back; 0 deletes at once."
  type        = number
}
