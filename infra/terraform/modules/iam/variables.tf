variable "environment" {
  description = "The environment's name."
  type        = string
}

variable "image" {
  description = "The image of the server."
  type        = string
}

variable "issuer" {
  description = "Where the issuing key is: store or kms."
  type        = string
}

variable "root_online" {
  description = "Whether servers sign the issuing CA's successors with the root key."
  type        = bool
}

variable "single_ca" {
  description = "Whether the root key signs leaves directly."
  type        = bool
}

variable "bootstrap_create_key" {
  description = "Whether bootstrap may make KMS keys (`--create-key`)."
  type        = bool
}

variable "root_key_arn" {
  description = "The root CA's key."
  type        = string
}

variable "issuing_key_arn" {
  description = "The issuing CA's key; null where it is not in KMS."
  type        = string
}

variable "sealing_key_arn" {
  description = "The key that wraps the data keys of the store."
  type        = string
}

variable "table_arns" {
  description = "The tables."
  type        = list(string)
}

variable "parameter_arns" {
  description = "The parameters that servers start from, by the end of their names."
  type        = map(string)
}

variable "secret_arn" {
  description = "The secret with the CA's key."
  type        = string
}

variable "bucket_arn" {
  description = "The bucket of output and journal."
  type        = string
}

variable "encryption_key_arn" {
  description = "The KMS key that data is encrypted with; null where each service uses its own."
  type        = string
  default     = null
}
