# One airunner environment on AWS. Each module is one thing; what they say to each other stands here.

data "aws_caller_identity" "current" {}

locals {
  name        = "airunner-${var.environment}"
  bucket_name = coalesce(var.bucket_name, "${var.table_prefix}-${var.environment}-output-${data.aws_caller_identity.current.account_id}")

  servers = var.started ? { min = var.min_servers, max = var.max_servers } : { min = 0, max = 0 }

  # What a server is told beside its certificates. `settings` comes last, so that it can change any of it.
  server_environment = merge(
    {
      AIRUNNER_ENVIRONMENT                = var.environment
      AIRUNNER_LOG_FORMAT                 = "json"
      AIRUNNER_AWS_REGION                 = var.region
      AIRUNNER_STORE_BACKEND              = "dynamodb"
      AIRUNNER_STORE_PREFIX               = var.table_prefix
      AIRUNNER_STORE_BUCKET               = module.storage.name
      AIRUNNER_MASTER_KEY_KMS_KEY         = module.keys.aliases.sealing
      AIRUNNER_SERVER_NAMES               = var.domain
      AIRUNNER_SERVER_API_ADDR            = "[::]:8443"
      AIRUNNER_SERVER_PUBLIC_ADDR         = "[::]:8444"
      AIRUNNER_SERVER_PLAIN_ADDR          = "[::]:8080"
      AIRUNNER_SERVER_METRICS_ADDR        = "[::]:9464"
      AIRUNNER_SERVER_API_ADDRESS         = "${var.domain}:443"
      AIRUNNER_SERVER_PUBLIC_ADDRESS      = "${var.domain}:8444"
      AIRUNNER_SERVER_DRAIN_SECONDS       = tostring(var.drain_seconds)
      AIRUNNER_SERVER_PROXY_PROTOCOL_FROM = join(",", module.network.balancer_cidrs)
      # Servers let output go and say so; the bucket's rule takes what they left. Jobs are kept for 30 days.
      AIRUNNER_JOBS_OUTPUT_RETENTION = "${min(var.output_days, 30)}d"
    },
    # With a single CA it is the root's key that signs leaves, and that is in KMS.
    var.issuer == "kms" || var.single_ca ? { AIRUNNER_CA_ISSUER = "kms" } : {},
    var.root_online ? { AIRUNNER_ROOT_ONLINE = "true", AIRUNNER_ROOT_KMS_KEY = module.keys.aliases.root } : {},
    var.ca_key_spec == "ECC_NIST_P384" ? { AIRUNNER_TLS_PROFILE = "p384" } : {},
    var.settings,
  )
}

module "tables" {
  source = "./modules/tables"

  name_prefix         = "${var.table_prefix}_${var.environment}"
  deletion_protection = var.deletion_protection
  encryption_key_arn  = var.encryption_key_arn
}

module "keys" {
  source = "./modules/keys"

  environment          = var.environment
  ca_key_spec          = var.ca_key_spec
  issuing              = var.issuer == "kms"
  deletion_window_days = var.deletion_protection ? 30 : 7
}

module "parameters" {
  source = "./modules/parameters"

  environment        = var.environment
  encryption_key_arn = var.encryption_key_arn
}

module "secret" {
  source = "./modules/secret"

  environment              = var.environment
  bootstrap_principal_arns = var.bootstrap_principal_arns
  encryption_key_arn       = var.encryption_key_arn
  recovery_window_days     = var.deletion_protection ? 30 : 0
}

module "storage" {
  source = "./modules/storage"

  name                = local.bucket_name
  output_days         = var.output_days
  deletion_protection = var.deletion_protection
  encryption_key_arn  = var.encryption_key_arn
}

module "network" {
  source = "./modules/network"

  name                = local.name
  vpc_id              = var.vpc_id
  subnet_ids          = var.subnet_ids
  balancer_subnet_ids = var.balancer_subnet_ids
  cidr                = var.network_cidr
  ipv6_offset         = var.network_ipv6_offset
  zones               = var.zones
  nat_per_zone        = var.nat_per_zone
  dual_stack          = var.dual_stack
}

module "firewall" {
  source = "./modules/firewall"

  name              = local.name
  vpc_id            = module.network.vpc_id
  client_cidrs      = var.client_cidrs
  public_http_cidrs = var.public_http_cidrs
  metrics_cidrs     = var.metrics_cidrs
}

module "balancer" {
  source = "./modules/balancer"

  name                = local.name
  vpc_id              = module.network.vpc_id
  subnet_ids          = module.network.balancer_subnet_ids
  security_group_id   = module.firewall.balancer_id
  internal            = var.internal
  dual_stack          = var.dual_stack
  with_plain_http     = length(var.public_http_cidrs) > 0
  drain_seconds       = var.drain_seconds
  deletion_protection = var.deletion_protection
}

module "iam" {
  source = "./modules/iam"

  environment          = var.environment
  image                = var.image
  issuer               = var.issuer
  root_online          = var.root_online
  single_ca            = var.single_ca
  bootstrap_create_key = var.bootstrap_create_key
  root_key_arn         = module.keys.root_arn
  issuing_key_arn      = module.keys.issuing_arn
  sealing_key_arn      = module.keys.sealing_arn
  table_arns           = values(module.tables.arns)
  parameter_arns       = module.parameters.arns
  secret_arn           = module.secret.arn
  bucket_arn           = module.storage.arn
  encryption_key_arn   = var.encryption_key_arn
}

module "service" {
  source = "./modules/service"

  name               = local.name
  cluster_arn        = var.cluster_arn
  image              = var.image
  cpu                = var.cpu
  memory             = var.memory
  cpu_architecture   = var.cpu_architecture
  min_servers        = local.servers.min
  max_servers        = local.servers.max
  drain_seconds      = var.drain_seconds
  environment        = local.server_environment
  execution_role_arn = module.iam.execution_role_arn
  task_role_arn      = module.iam.task_role_arn
  subnet_ids         = module.network.server_subnet_ids
  security_group_id  = module.firewall.server_id
  targets            = { for name, target in module.balancer.targets : name => { port = target.port, arn = target.arn } }
  log_days           = var.log_days
  encryption_key_arn = var.encryption_key_arn
  secrets = {
    AIRUNNER_CA_CERT     = module.parameters.arns["ca-cert"]
    AIRUNNER_SERVER_CERT = module.parameters.arns["server-cert"]
    AIRUNNER_SERVER_KEY  = module.parameters.arns["server-key"]
  }
}

module "alarms" {
  source = "./modules/alarms"

  name          = local.name
  topic_arns    = var.alarm_topic_arns
  balancer      = module.balancer.metric_name
  target_groups = { for name, target in module.balancer.targets : name => target.metric_name }
  cluster       = module.service.cluster_name
  service       = module.service.service_name
  tables        = module.tables.names
  log_group     = module.service.log_group
}
