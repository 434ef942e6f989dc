variable "name" {
  description = "What the groups are called by."
  type        = string
}

variable "vpc_id" {
  description = "The VPC that they are in."
  type        = string
}

variable "client_cidrs" {
  description = "Who may reach the API (443) and the public listener (8444)."
  type        = set(string)
}

variable "public_http_cidrs" {
  description = "Who may reach health, CA certificates, CRLs and OCSP over plain HTTP (80, 8080)."
  type        = set(string)
}

variable "metrics_cidrs" {
  description = "Who may reach each server's metrics (9464)."
  type        = set(string)
}
