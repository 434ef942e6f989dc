# For production, in a network and a cluster that are there, with every setting that one may want to change.
environment = "prod"
region      = "eu-central-1"
domain      = "airunner.example.com"
image       = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/airunner@sha256:0000000000000000000000000000000000000000000000000000000000000000"
tags        = { Team = "platform", CostCenter = "4711" }

# The servers.
started          = false # until bootstrap has run
min_servers      = 3
max_servers      = 12
cpu              = 2048
memory           = 4096
cpu_architecture = "ARM64"
drain_seconds    = 60
log_days         = 400
cluster_arn      = "arn:aws:ecs:eu-central-1:123456789012:cluster/platform"
alarm_topic_arns = ["arn:aws:sns:eu-central-1:123456789012:on-call"]
settings = {
  AIRUNNER_TRUST_DOMAIN             = "prod.example.com"
  AIRUNNER_LIMITS_PER_PRINCIPAL_RPS = "200"
  AIRUNNER_CA_ON_FORK               = "suspend"
  # Servers look at the parameters themselves, and take a new certificate up without a deployment.
  AIRUNNER_TLS_CA   = "ssm:/airunner/prod/ca-cert"
  AIRUNNER_TLS_CERT = "ssm:/airunner/prod/server-cert"
  AIRUNNER_TLS_KEY  = "ssm:/airunner/prod/server-key"
}

# The certificate authority: P-384, both keys in KMS, and servers renew the issuing CA by themselves.
ca_key_spec              = "ECC_NIST_P384"
issuer                   = "kms"
root_online              = true
single_ca                = false
bootstrap_principal_arns = ["arn:aws:iam::123456789012:role/airunner-bootstrap"]
bootstrap_create_key     = false

# The network.
vpc_id              = "vpc-0123456789abcdef0"
subnet_ids          = ["subnet-0123456789abcdef0", "subnet-0123456789abcdef1"]
balancer_subnet_ids = ["subnet-0123456789abcdef2", "subnet-0123456789abcdef3"]
dual_stack          = true
internal            = false
client_cidrs        = ["0.0.0.0/0", "::/0"]
public_http_cidrs   = ["0.0.0.0/0", "::/0"] # CRLs and OCSP for verifiers that are not ours
metrics_cidrs       = ["10.0.0.0/16"]

# What is kept.
table_prefix        = "airunner"
bucket_name         = "example-airunner-prod"
output_days         = 30
encryption_key_arn  = "arn:aws:kms:eu-central-1:123456789012:key/11111111-2222-3333-4444-555555555555"
deletion_protection = true
