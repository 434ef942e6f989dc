# The servers, applied: what Terraform leaves alone once it is there.

mock_provider "aws" {
  source = "./tests/mocks"
}

variables {
  name               = "airunner-prod"
  cluster_arn        = "arn:aws:ecs:eu-central-1:123456789012:cluster/given"
  image              = "registry.example.com/airunner:1"
  cpu                = 1024
  memory             = 2048
  cpu_architecture   = "X86_64"
  min_servers        = 2
  max_servers        = 6
  drain_seconds      = 30
  environment        = { AIRUNNER_ENVIRONMENT = "prod" }
  secrets            = { AIRUNNER_CA_CERT = "a", AIRUNNER_SERVER_CERT = "b", AIRUNNER_SERVER_KEY = "c" }
  execution_role_arn = "arn:aws:iam::123456789012:role/execution"
  task_role_arn      = "arn:aws:iam::123456789012:role/task"
  subnet_ids         = ["subnet-a", "subnet-b"]
  security_group_id  = "sg-1"
  targets            = { api = { port = 8443, arn = "arn:aws:elasticloadbalancing:eu-central-1:123456789012:targetgroup/api/1" } }
  log_days           = 30
}

run "a_started_service_is_as_large_as_told" {
  module {
    source = "./modules/service"
  }

  assert {
    condition     = length(aws_ecs_cluster.this) == 0 && output.cluster_name == "given"
    error_message = "A cluster that is given is used, and none is made."
  }
  assert {
    condition     = { for secret in jsondecode(aws_ecs_task_definition.this.container_definitions)[0].secrets : secret.name => secret.valueFrom } == { AIRUNNER_CA_CERT = "a", AIRUNNER_SERVER_CERT = "b", AIRUNNER_SERVER_KEY = "c" }
    error_message = "Certificates and key come out of SSM."
  }
  assert {
    condition     = jsondecode(aws_ecs_task_definition.this.container_definitions)[0].readonlyRootFilesystem && jsondecode(aws_ecs_task_definition.this.container_definitions)[0].user == "10001:10001" && !aws_ecs_service.this.network_configuration[0].assign_public_ip
    error_message = "Nobody's root, a file system that can't be written, no address of its own."
  }
  assert {
    condition     = aws_ecs_service.this.desired_count == 2
    error_message = "It starts with as many as there are at least."
  }
}

run "the_count_stays_the_autoscalers" {
  command = plan
  module {
    source = "./modules/service"
  }
  variables {
    min_servers = 4
  }

  assert {
    condition     = aws_ecs_service.this.desired_count == 2 && aws_appautoscaling_target.this.min_capacity == 4
    error_message = "Terraform leaves the count that it finds, and tells the autoscaler the new bounds."
  }
}
