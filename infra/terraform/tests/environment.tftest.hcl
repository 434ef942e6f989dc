# The whole: what things are called, what is made and what is not, and what is open.

mock_provider "aws" {
  override_during = plan
  source          = "./tests/mocks"
}

variables {
  environment = "prod"
  region      = "eu-central-1"
  domain      = "airunner.example.com"
  image       = "registry.example.com/airunner:1"
}

run "everything_has_the_name_that_servers_and_bootstrap_look_for" {
  command = plan

  assert {
    condition     = output.tables["principals"] == "airunner_prod_principals" && output.tables["certificates"] == "airunner_prod_certificates"
    error_message = "Tables are called PREFIX_ENVIRONMENT_NAME."
  }
  assert {
    condition     = output.keys == { root = "alias/airunner-prod-ca", issuing = null, sealing = "alias/airunner-prod-sealing" }
    error_message = "Keys are called alias/airunner-ENVIRONMENT-…, and the issuing key is not in KMS unless told."
  }
  assert {
    condition     = output.parameters == { ca-cert = "/airunner/prod/ca-cert", server-cert = "/airunner/prod/server-cert", server-key = "/airunner/prod/server-key" }
    error_message = "Parameters are called /airunner/ENVIRONMENT/…"
  }
  assert {
    condition     = output.ca_key_secret == "/airunner/prod/ca-key"
    error_message = "The secret is called /airunner/ENVIRONMENT/ca-key."
  }
  assert {
    condition     = [output.cluster, output.service, output.task_family, output.log_group] == ["made", "airunner-prod", "airunner-prod", "/ecs/airunner-prod"]
    error_message = "Service, family and log group have the environment's name."
  }
  assert {
    condition     = output.server_environment["AIRUNNER_STORE_BACKEND"] == "dynamodb" && output.server_environment["AIRUNNER_MASTER_KEY_KMS_KEY"] == "alias/airunner-prod-sealing"
    error_message = "Servers are told of the tables and of the sealing key."
  }
  assert {
    condition     = module.storage.name == "airunner-prod-output-123456789012"
    error_message = "The bucket is called PREFIX-ENVIRONMENT-output-ACCOUNT."
  }
}

run "a_server_believes_the_balancer_alone_about_addresses" {
  command = plan

  assert {
    condition     = output.server_environment["AIRUNNER_SERVER_PROXY_PROTOCOL_FROM"] == "10.64.0.0/20,10.64.16.0/20"
    error_message = "PROXY headers come from the balancer's subnets."
  }
}

run "settings_of_the_site_count" {
  command = plan
  variables {
    settings = { AIRUNNER_LIMITS_PER_PRINCIPAL_RPS = "5", AIRUNNER_LOG_FORMAT = "text" }
  }

  assert {
    condition     = output.server_environment["AIRUNNER_LIMITS_PER_PRINCIPAL_RPS"] == "5" && output.server_environment["AIRUNNER_LOG_FORMAT"] == "text"
    error_message = "What a site sets comes last."
  }
}

run "certificates_are_no_settings" {
  command = plan
  variables {
    settings = { AIRUNNER_SERVER_KEY = "…" }
  }
  expect_failures = [var.settings]
}

run "servers_know_two_environments" {
  command = plan
  variables {
    environment = "staging"
  }
  expect_failures = [var.environment]
}

run "subnets_are_of_a_vpc" {
  command = plan
  variables {
    subnet_ids = ["subnet-1"]
  }
  expect_failures = [var.subnet_ids]
}

run "an_issuing_key_in_kms_has_its_alias" {
  command = plan
  variables {
    issuer = "kms"
  }

  assert {
    condition     = output.keys["issuing"] == "alias/airunner-prod-issuing" && output.server_environment["AIRUNNER_CA_ISSUER"] == "kms"
    error_message = "issuer = kms makes the key and tells servers."
  }
}

run "what_is_given_is_used" {
  command = plan
  variables {
    vpc_id      = "vpc-given"
    subnet_ids  = ["subnet-a", "subnet-b"]
    cluster_arn = "arn:aws:ecs:eu-central-1:123456789012:cluster/given"
  }

  assert {
    condition     = output.vpc_id == "vpc-given" && output.cluster == "given"
    error_message = "A network and a cluster that are there are used."
  }
  assert {
    condition     = output.server_environment["AIRUNNER_SERVER_PROXY_PROTOCOL_FROM"] == "10.1.2.0/24,10.1.2.0/24"
    error_message = "PROXY headers come from the subnets that the balancer stands in."
  }
}

run "nothing_runs_before_bootstrap" {
  command = plan
  variables {
    started = false
  }

  assert {
    condition     = module.service.service_name == "airunner-prod" && local.servers == { min = 0, max = 0 }
    error_message = "The service is there, and waits."
  }
}
