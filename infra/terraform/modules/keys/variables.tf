variable "environment" {
  description = "The environment's name."
  type        = string
}

variable "ca_key_spec" {
  description = "What kind of keys the CAs have."
  type        = string
}

variable "issuing" {
  description = "Whether the issuing CA's key is in KMS too."
  type        = bool
}

variable "deletion_window_days" {
  description = "Days between the order to delete a key and its end, within which the order can be taken back."
  type        = number
}
