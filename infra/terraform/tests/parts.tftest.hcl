# The parts one by one: what is made, what is protected, what is closed.

mock_provider "aws" {
  override_during = plan
  source          = "./tests/mocks"
}

run "tables_are_those_of_the_code_and_protected" {
  command = plan
  module {
    source = "./modules/tables"
  }
  variables {
    name_prefix         = "airunner_prod"
    deletion_protection = true
  }

  assert {
    condition     = keys(aws_dynamodb_table.this) == keys(jsondecode(file("./modules/tables/tables.json")))
    error_message = "There is a table for each that the code describes, and no other."
  }
  assert {
    condition = alltrue([for table in aws_dynamodb_table.this :
      table.billing_mode == "PAY_PER_REQUEST" && table.deletion_protection_enabled &&
      table.point_in_time_recovery[0].enabled && table.server_side_encryption[0].enabled
    ])
    error_message = "On demand, protected, recoverable, encrypted."
  }
  assert {
    condition     = aws_dynamodb_table.this["certificates"].ttl[0].attribute_name == "ttl" && length(aws_dynamodb_table.this["principals"].ttl) == 0
    error_message = "What expires has its time to live; principals don't."
  }
  assert {
    condition = toset([for attribute in aws_dynamodb_table.this["certificates"].attribute : attribute.name]) == toset(flatten([
      for key in concat([jsondecode(file("./modules/tables/tables.json"))["certificates"]], values(jsondecode(file("./modules/tables/tables.json"))["certificates"].indexes)) :
      [for part in [key.hash, key.range] : part.name if part != null]
    ]))
    error_message = "Every attribute of a key is declared, and no other."
  }
}

run "keys_are_of_their_kind" {
  command = plan
  module {
    source = "./modules/keys"
  }
  variables {
    environment          = "prod"
    ca_key_spec          = "ECC_NIST_P256"
    issuing              = false
    deletion_window_days = 30
  }

  assert {
    condition     = aws_kms_key.root.customer_master_key_spec == "ECC_NIST_P256" && aws_kms_key.root.key_usage == "SIGN_VERIFY"
    error_message = "The root signs."
  }
  assert {
    condition     = aws_kms_key.sealing.enable_key_rotation && length(aws_kms_key.issuing) == 0
    error_message = "The sealing key rotates; there is no issuing key unless told."
  }
}

run "parameters_wait_for_bootstrap" {
  command = plan
  module {
    source = "./modules/parameters"
  }
  variables {
    environment = "prod"
  }

  assert {
    condition     = alltrue([for parameter in aws_ssm_parameter.this : parameter.value == "placeholder"])
    error_message = "Servers refuse `placeholder` by name."
  }
  assert {
    condition     = { for name, parameter in aws_ssm_parameter.this : name => parameter.type } == { ca-cert = "String", server-cert = "String", server-key = "SecureString" }
    error_message = "The key alone is secret."
  }
}

run "the_secret_is_closed_to_all_but_bootstrap" {
  command = plan
  module {
    source = "./modules/secret"
  }
  variables {
    environment              = "prod"
    bootstrap_principal_arns = ["arn:aws:iam::123456789012:role/bootstrap"]
    recovery_window_days     = 30
  }

  assert {
    condition = alltrue([for s in jsondecode(output.policy).Statement : s.Effect == "Deny"]) && contains(
      [for s in jsondecode(output.policy).Statement : try(s.Condition.ArnNotLike["aws:PrincipalArn"], [])], ["arn:aws:iam::123456789012:role/bootstrap"],
    )
    error_message = "Nobody but bootstrap touches the value."
  }
}

run "the_secret_is_closed_to_all_where_nobody_is_named" {
  command = plan
  module {
    source = "./modules/secret"
  }
  variables {
    environment              = "prod"
    bootstrap_principal_arns = []
    recovery_window_days     = 30
  }

  assert {
    condition     = strcontains(output.policy, "role/nobody")
    error_message = "With nobody named, nobody may."
  }
}

run "the_bucket_is_private_and_keeps_the_journal" {
  command = plan
  module {
    source = "./modules/storage"
  }
  variables {
    name                = "airunner-prod"
    output_days         = 30
    deletion_protection = true
  }

  assert {
    condition     = aws_s3_bucket_public_access_block.this.block_public_acls && aws_s3_bucket_public_access_block.this.block_public_policy && aws_s3_bucket_public_access_block.this.ignore_public_acls && aws_s3_bucket_public_access_block.this.restrict_public_buckets
    error_message = "Nothing is public."
  }
  assert {
    condition     = aws_s3_bucket_versioning.this.versioning_configuration[0].status == "Enabled" && !aws_s3_bucket.this.force_destroy
    error_message = "Versions are kept, and the bucket goes only when it is empty."
  }
  assert {
    condition     = [for s in jsondecode(output.policy).Statement : s.Sid] == ["NothingInTheClear", "NoOldTls"]
    error_message = "TLS only."
  }
  assert {
    condition     = [for rule in aws_s3_bucket_lifecycle_configuration.this.rule : rule.id if length(rule.expiration) > 0] == ["output"]
    error_message = "Output ends; the journal does not."
  }
}

run "what_is_given_is_not_made" {
  command = plan
  module {
    source = "./modules/network"
  }
  variables {
    name                = "airunner-prod"
    vpc_id              = "vpc-given"
    subnet_ids          = ["subnet-a", "subnet-b"]
    balancer_subnet_ids = ["subnet-c"]
    cidr                = "10.64.0.0/16"
    ipv6_offset         = 0
    zones               = 2
    nat_per_zone        = true
    dual_stack          = true
  }

  assert {
    condition     = output.vpc_id == "vpc-given" && length(aws_vpc.this) == 0 && length(aws_internet_gateway.this) == 0
    error_message = "A VPC that is given is used, and none is made."
  }
  assert {
    condition     = length(aws_subnet.public) + length(aws_subnet.private) + length(aws_nat_gateway.this) + length(aws_vpc_endpoint.gateway) == 0
    error_message = "Where subnets are given, nothing of a network is made."
  }
  assert {
    condition     = join(" ", output.server_subnet_ids) == "subnet-a subnet-b" && join(" ", output.balancer_subnet_ids) == "subnet-c" && join(" ", output.balancer_cidrs) == "10.1.2.0/24"
    error_message = "Servers and balancer stand where they are told."
  }
}

run "subnets_are_made_in_a_vpc_that_is_given" {
  command = plan
  module {
    source = "./modules/network"
  }
  variables {
    name                = "airunner-prod"
    vpc_id              = "vpc-given"
    subnet_ids          = []
    balancer_subnet_ids = []
    cidr                = "10.9.0.0/20"
    ipv6_offset         = 32
    zones               = 2
    nat_per_zone        = false
    dual_stack          = true
  }

  assert {
    condition     = length(aws_vpc.this) == 0 && length(aws_subnet.public) == 2 && length(aws_subnet.private) == 2 && length(aws_nat_gateway.this) == 1
    error_message = "Subnets are made, the VPC is not, and the zones share a NAT gateway."
  }
  assert {
    condition     = aws_subnet.private["1"].cidr_block == "10.9.9.0/24" && aws_subnet.public["0"].ipv6_cidr_block == "2001:db8:1234:120::/64"
    error_message = "Ranges are cut out of what was said."
  }
}

run "plain_http_is_closed_unless_asked_for" {
  command = plan
  module {
    source = "./modules/firewall"
  }
  variables {
    name              = "airunner-prod"
    vpc_id            = "vpc-given"
    client_cidrs      = ["0.0.0.0/0", "::/0"]
    public_http_cidrs = []
    metrics_cidrs     = []
  }

  assert {
    condition     = toset([for rule in aws_vpc_security_group_ingress_rule.balancer : rule.from_port]) == toset([443, 8444])
    error_message = "Clients reach 443 and 8444, and not 8080."
  }
  assert {
    condition     = alltrue([for rule in aws_vpc_security_group_ingress_rule.server : rule.cidr_ipv4 == null && rule.cidr_ipv6 == null])
    error_message = "Servers are reached by the balancer's group alone: 8080 by its health checks."
  }
  assert {
    condition     = length(aws_vpc_security_group_ingress_rule.metrics) == 0
    error_message = "Nobody reads metrics unless named."
  }
}

run "plain_http_is_opened_to_those_who_are_named" {
  command = plan
  module {
    source = "./modules/firewall"
  }
  variables {
    name              = "airunner-prod"
    vpc_id            = "vpc-given"
    client_cidrs      = ["0.0.0.0/0"]
    public_http_cidrs = ["192.0.2.0/24", "2001:db8::/32"]
    metrics_cidrs     = ["10.0.0.0/16"]
  }

  assert {
    condition     = toset([for rule in aws_vpc_security_group_ingress_rule.balancer : rule.cidr_ipv4 if rule.from_port == 8080 && rule.cidr_ipv4 != null]) == toset(["192.0.2.0/24"])
    error_message = "8080 is open to those named, and to no others."
  }
}

run "the_balancer_passes_tcp_through_and_says_who_calls" {
  command = plan
  module {
    source = "./modules/balancer"
  }
  variables {
    name                = "airunner-prod"
    vpc_id              = "vpc-given"
    subnet_ids          = ["subnet-a", "subnet-b"]
    security_group_id   = "sg-1"
    internal            = false
    dual_stack          = true
    with_plain_http     = false
    drain_seconds       = 30
    deletion_protection = true
  }

  assert {
    condition     = aws_lb.this.load_balancer_type == "network" && aws_lb.this.ip_address_type == "dualstack" && aws_lb.this.enable_deletion_protection
    error_message = "A network load balancer, of both families."
  }
  assert {
    condition     = { for port, listener in aws_lb_listener.this : port => listener.protocol } == { "443" = "TCP", "8444" = "TCP" }
    error_message = "443 and 8444, TCP, and nothing on 80 and 8080."
  }
  assert {
    condition     = { for name, group in aws_lb_target_group.this : name => group.port } == { api = 8443, public = 8444 } && alltrue([for group in aws_lb_target_group.this : group.proxy_protocol_v2 && group.health_check[0].port == "8080" && group.health_check[0].path == "/health"])
    error_message = "To 8443 and 8444, with PROXY v2, health on 8080."
  }
}
