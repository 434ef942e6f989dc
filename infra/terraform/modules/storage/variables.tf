variable "name" {
  description = "The bucket's name."
  type        = string
}

variable "output_days" {
  description = "Days after which jobs' output is deleted."
  type        = number
}

variable "deletion_protection" {
  description = "Whether the bucket refuses to be deleted with what is in it."
  type        = bool
}

variable "encryption_key_arn" {
  description = "A KMS key to encrypt objects with; null is S3's own (AES-256)."
  type        = string
  default     = null
}
