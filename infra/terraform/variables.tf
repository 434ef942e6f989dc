# The environment.

variable "environment" {
  description = "Which environment this is: dev or prod. It is in the name of everything."
  type        = string

  validation {
    condition     = contains(["dev", "prod"], var.environment)
    error_message = "environment is dev or prod: servers know no other, and local needs no AWS."
  }
}

variable "region" {
  description = "The AWS region."
  type        = string
}

variable "domain" {
  description = "The name that clients reach the servers by, as bootstrap's --domain. Point it to the output balancer_dns_name."
  type        = string

  validation {
    condition     = can(regex("^[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?(\\.[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?)+$", var.domain))
    error_message = "domain is a DNS name, as airunner.example.com."
  }
}

variable "tags" {
  description = "Tags for everything, beside Application, Environment and ManagedBy."
  type        = map(string)
  default     = {}
}

# The servers.

variable "image" {
  description = "The image of the server, by tag or better by digest."
  type        = string

  validation {
    condition     = length(var.image) > 0 && !can(regex("\\s", var.image))
    error_message = "image names an image, as 123456789012.dkr.ecr.eu-central-1.amazonaws.com/airunner:0.1.0."
  }
}

variable "started" {
  description = "Whether servers run. Before bootstrap it is false: servers refuse the placeholders in SSM."
  type        = bool
  default     = true
}

variable "min_servers" {
  description = "Servers at least."
  type        = number
  default     = 2

  validation {
    condition     = var.min_servers >= 1 && var.min_servers <= var.max_servers
    error_message = "min_servers is from 1 to max_servers; to run none, set started to false."
  }
}

variable "max_servers" {
  description = "Servers at most."
  type        = number
  default     = 6
}

variable "cpu" {
  description = "Processor units of a server, of those that Fargate knows; 1024 are one processor."
  type        = number
  default     = 1024
}

variable "memory" {
  description = "Memory of a server in MiB, of those that Fargate knows beside `cpu`."
  type        = number
  default     = 2048
}

variable "cpu_architecture" {
  description = "What the image was built for: X86_64 or ARM64."
  type        = string
  default     = "X86_64"

  validation {
    condition     = contains(["X86_64", "ARM64"], var.cpu_architecture)
    error_message = "cpu_architecture is X86_64 or ARM64."
  }
}

variable "drain_seconds" {
  description = "Seconds that a server which was told to stop takes for its open calls; Fargate ends it after 120."
  type        = number
  default     = 30

  validation {
    condition     = var.drain_seconds >= 0 && var.drain_seconds <= 90
    error_message = "drain_seconds is from 0 to 90."
  }
}

variable "settings" {
  description = "Further settings of the server, by variable, as AIRUNNER_LIMITS_PER_PRINCIPAL_RPS. They count before those that Terraform sets."
  type        = map(string)
  default     = {}

  validation {
    condition     = alltrue([for name in keys(var.settings) : can(regex("^AIRUNNER_[A-Z0-9_]+$", name))])
    error_message = "settings are named AIRUNNER_SECTION_KEY."
  }

  validation {
    condition     = length(setintersection(keys(var.settings), ["AIRUNNER_CA_CERT", "AIRUNNER_SERVER_CERT", "AIRUNNER_SERVER_KEY"])) == 0
    error_message = "certificates and key come from SSM, where bootstrap puts them."
  }
}

variable "cluster_arn" {
  description = "The ECS cluster to run in; null makes one."
  type        = string
  default     = null
}

variable "log_days" {
  description = "Days for which logs are kept, of those that CloudWatch knows."
  type        = number
  default     = 365
}

variable "alarm_topic_arns" {
  description = "SNS topics that are told of each alarm and of its end."
  type        = list(string)
  default     = []
}

# The certificate authority.

variable "ca_key_spec" {
  description = "What kind of keys the CAs have in KMS: ECC_NIST_P256, or ECC_NIST_P384 for the p384 profile."
  type        = string
  default     = "ECC_NIST_P256"

  validation {
    condition     = contains(["ECC_NIST_P256", "ECC_NIST_P384"], var.ca_key_spec)
    error_message = "ca_key_spec is ECC_NIST_P256 or ECC_NIST_P384."
  }
}

variable "issuer" {
  description = "Where the issuing CA's key is: `store`, sealed there and held in the servers' memory, or `kms`."
  type        = string
  default     = "store"

  validation {
    condition     = contains(["store", "kms"], var.issuer)
    error_message = "issuer is store or kms."
  }
}

variable "root_online" {
  description = "Whether servers may sign the issuing CA's successors with the root key (`[root] online`)."
  type        = bool
  default     = false
}

variable "single_ca" {
  description = "Whether bootstrap ran with --single-ca: servers then sign leaves with the root key."
  type        = bool
  default     = false
}

variable "bootstrap_principal_arns" {
  description = "Roles and users that run bootstrap: they alone may read and write the secret of the CA's key. With none, nobody may. Once the secret is there, Terraform's own role must be among them to change its description or encryption."
  type        = set(string)
  default     = []
}

variable "bootstrap_create_key" {
  description = "Whether the policy for bootstrap lets it make KMS keys (`bootstrap --create-key`)."
  type        = bool
  default     = false
}

# The network.

variable "vpc_id" {
  description = "The VPC to stand in; null makes one."
  type        = string
  default     = null
}

variable "subnet_ids" {
  description = "The subnets that servers stand in, of `vpc_id`; none makes them. They need a way to AWS and to the image's registry."
  type        = set(string)
  default     = []

  validation {
    condition     = length(var.subnet_ids) == 0 || var.vpc_id != null
    error_message = "subnet_ids are of a VPC: name it in vpc_id."
  }
}

variable "balancer_subnet_ids" {
  description = "The subnets that the balancer stands in, where they are not `subnet_ids`."
  type        = set(string)
  default     = []

  validation {
    condition     = length(var.balancer_subnet_ids) == 0 || length(var.subnet_ids) > 0
    error_message = "balancer_subnet_ids go with subnet_ids: where subnets are made, those of the balancer are made too."
  }
}

variable "network_cidr" {
  description = "The IPv4 range of what is made, a /24 at least: of the VPC, or of the subnets in a VPC that is given."
  type        = string
  default     = "10.64.0.0/16"
}

variable "network_ipv6_offset" {
  description = "Of a VPC that is given: the first /64 of its /56 that made subnets take. They take 16 from there on."
  type        = number
  default     = 0

  validation {
    condition     = var.network_ipv6_offset >= 0 && var.network_ipv6_offset <= 240
    error_message = "network_ipv6_offset is from 0 to 240."
  }
}

variable "zones" {
  description = "In how many availability zones subnets are made."
  type        = number
  default     = 2

  validation {
    condition     = var.zones >= 2 && var.zones <= 6
    error_message = "zones is from 2 to 6."
  }
}

variable "nat_per_zone" {
  description = "Whether each zone has a NAT gateway of its own; otherwise all share the first zone's, and fall with it."
  type        = bool
  default     = true
}

variable "dual_stack" {
  description = "Whether the balancer has IPv6 addresses too; subnets that are given must then have IPv6 ranges."
  type        = bool
  default     = true
}

variable "internal" {
  description = "Whether the balancer has addresses inside of the network only."
  type        = bool
  default     = false
}

variable "client_cidrs" {
  description = "Who may reach the API (443) and the public listener (8444). Every connection to the API shows a certificate."
  type        = set(string)
  default     = ["0.0.0.0/0", "::/0"]
}

variable "public_http_cidrs" {
  description = "Who may reach health, CA certificates, CRLs and OCSP over plain HTTP (80 and 8080). With none, the balancer does not listen there."
  type        = set(string)
  default     = []
}

variable "metrics_cidrs" {
  description = "Who may reach each server's metrics (9464); never through the balancer."
  type        = set(string)
  default     = []
}

# What is kept.

variable "table_prefix" {
  description = "What tables are called by, PREFIX_ENVIRONMENT_NAME, and the bucket (`[store] prefix`)."
  type        = string
  default     = "airunner"

  validation {
    condition     = can(regex("^[a-z0-9-]{1,32}$", var.table_prefix))
    error_message = "table_prefix is 1 to 32 lower-case letters, digits and hyphens."
  }
}

variable "bucket_name" {
  description = "The bucket of output and journal; null is PREFIX-ENVIRONMENT-output-ACCOUNT, where bootstrap and servers look by themselves."
  type        = string
  default     = null
}

variable "output_days" {
  description = "Days after which the bucket deletes output, whoever wrote it. Servers let it go before, after [jobs] output_retention: these days, or 30 where that is less; through `settings` otherwise."
  type        = number
  default     = 90

  validation {
    condition     = var.output_days >= 1
    error_message = "output_days is 1 at least."
  }
}

variable "encryption_key_arn" {
  description = "A KMS key of yours for tables, bucket, parameters, secret and logs; its policy must let those services use it. Null is each service's own."
  type        = string
  default     = null
}

variable "deletion_protection" {
  description = "Whether tables, balancer and bucket refuse to be deleted, and deleted keys and the secret can be had back for 30 days. Without it `terraform destroy` takes everything."
  type        = bool
  default     = true
}

# What bootstrap made before.

variable "adopt" {
  description = "Whether to take over what `airunner-cli bootstrap --create` made."
  type        = bool
  default     = false
}

variable "adopt_kinds" {
  description = "What it made: tables, root_key, issuing_key, sealing_key, parameters, secret, bucket. After `--create-key` it is the keys alone, with `--signer file` the secret in place of root_key."
  type        = set(string)
  default     = ["tables", "root_key", "sealing_key", "parameters", "bucket"]

  validation {
    condition     = length(setsubtract(var.adopt_kinds, ["tables", "root_key", "issuing_key", "sealing_key", "parameters", "secret", "bucket"])) == 0
    error_message = "adopt_kinds are tables, root_key, issuing_key, sealing_key, parameters, secret and bucket."
  }

  validation {
    condition     = !contains(var.adopt_kinds, "issuing_key") || var.issuer == "kms"
    error_message = "there is an issuing_key to adopt only with issuer = \"kms\"."
  }
}
