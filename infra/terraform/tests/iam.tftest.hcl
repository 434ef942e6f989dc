# Who may do what: the least that is needed, and what each switch adds.

mock_provider "aws" {
  override_during = plan
  source          = "./tests/mocks"
}

variables {
  environment          = "prod"
  image                = "registry.example.com/airunner:1"
  issuer               = "store"
  root_online          = false
  single_ca            = false
  bootstrap_create_key = false
  root_key_arn         = "arn:aws:kms:eu-central-1:123456789012:key/root"
  issuing_key_arn      = null
  sealing_key_arn      = "arn:aws:kms:eu-central-1:123456789012:key/sealing"
  table_arns           = ["arn:aws:dynamodb:eu-central-1:123456789012:table/airunner_prod_principals"]
  parameter_arns = {
    ca-cert     = "arn:aws:ssm:eu-central-1:123456789012:parameter/airunner/prod/ca-cert"
    server-cert = "arn:aws:ssm:eu-central-1:123456789012:parameter/airunner/prod/server-cert"
    server-key  = "arn:aws:ssm:eu-central-1:123456789012:parameter/airunner/prod/server-key"
  }
  secret_arn = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:/airunner/prod/ca-key-abcdef"
  bucket_arn = "arn:aws:s3:::airunner-prod"
}

run "a_server_signs_with_no_key_of_kms_unless_told" {
  command = plan
  module {
    source = "./modules/iam"
  }

  assert {
    condition     = !strcontains(output.task_policy, "kms:Sign") && !strcontains(output.task_policy, "key/root")
    error_message = "The root key is not for servers."
  }
  assert {
    condition     = [for s in jsondecode(output.task_policy).Statement : s.Action if contains(s.Resource, var.sealing_key_arn)] == [["kms:Decrypt", "kms:DescribeKey"]]
    error_message = "With the sealing key a server decrypts, and seals nothing new."
  }
  assert {
    condition     = !strcontains(output.task_policy, "secretsmanager:") && !strcontains(output.task_policy, "PutParameter")
    error_message = "A server has no business with the CA key's secret, and writes no parameter."
  }
  assert {
    condition     = alltrue([for s in jsondecode(output.task_policy).Statement : !contains(s.Resource, "*") && alltrue([for a in s.Action : !strcontains(a, "*")])])
    error_message = "Every act and everything it is done to is named."
  }
  assert {
    condition     = !strcontains(output.task_policy, "dynamodb:Scan") && !strcontains(output.task_policy, "DeleteTable")
    error_message = "A server neither scans nor deletes tables."
  }
  assert {
    condition     = [for s in jsondecode(output.task_policy).Statement : s.Resource if contains(s.Action, "s3:DeleteObject")] == [["arn:aws:s3:::airunner-prod/output/*"]]
    error_message = "The denial journal is never deleted from."
  }
  assert {
    condition     = contains([for s in jsondecode(output.task_policy).Statement : s.Resource[0]], "arn:aws:dynamodb:eu-central-1:123456789012:table/airunner_prod_principals/index/*")
    error_message = "A server may query the indexes of its tables."
  }
}

run "root_online_lets_servers_sign_with_the_root_alone" {
  command = plan
  module {
    source = "./modules/iam"
  }
  variables {
    root_online = true
  }

  assert {
    condition     = [for s in jsondecode(output.task_policy).Statement : s.Resource if contains(s.Action, "kms:Sign")] == [[var.root_key_arn]]
    error_message = "root_online opens the root key."
  }
}

run "a_single_ca_signs_leaves_with_the_root" {
  command = plan
  module {
    source = "./modules/iam"
  }
  variables {
    single_ca = true
  }

  assert {
    condition     = [for s in jsondecode(output.task_policy).Statement : s.Resource if contains(s.Action, "kms:Sign")] == [[var.root_key_arn]]
    error_message = "single_ca opens the root key."
  }
}

run "an_issuing_key_in_kms_opens_that_key_and_not_the_root" {
  command = plan
  module {
    source = "./modules/iam"
  }
  variables {
    issuer          = "kms"
    issuing_key_arn = "arn:aws:kms:eu-central-1:123456789012:key/issuing"
  }

  assert {
    condition     = [for s in jsondecode(output.task_policy).Statement : s.Resource if contains(s.Action, "kms:Sign")] == [["arn:aws:kms:eu-central-1:123456789012:key/issuing"]]
    error_message = "issuer = kms opens the issuing key alone."
  }
}

run "ecs_reads_the_three_parameters_and_writes_the_log" {
  command = plan
  module {
    source = "./modules/iam"
  }

  assert {
    condition     = flatten([for s in jsondecode(output.execution_policy).Statement : s.Action]) == ["ssm:GetParameters", "logs:CreateLogStream", "logs:PutLogEvents"]
    error_message = "To start a server out of another's registry ECS needs no more."
  }
  assert {
    condition     = length(flatten([for s in jsondecode(output.execution_policy).Statement : s.Resource if contains(s.Action, "ssm:GetParameters")])) == 3
    error_message = "There are three parameters."
  }
  assert {
    condition     = strcontains(output.execution_policy, "log-group:/ecs/airunner-prod:*")
    error_message = "ECS writes to the log group of the environment."
  }
}

run "an_image_of_ecr_opens_its_repository" {
  command = plan
  module {
    source = "./modules/iam"
  }
  variables {
    image = "210987654321.dkr.ecr.us-east-1.amazonaws.com/team/airunner:1"
  }

  assert {
    condition     = [for s in jsondecode(output.execution_policy).Statement : s.Resource if contains(s.Action, "ecr:BatchGetImage")] == [["arn:aws:ecr:us-east-1:210987654321:repository/team/airunner"]]
    error_message = "The repository is that of the image."
  }
}

run "bootstrap_may_do_what_it_does" {
  command = plan
  module {
    source = "./modules/iam"
  }

  assert {
    condition     = [for s in jsondecode(output.bootstrap_policy).Statement : s.Action if contains(s.Resource, var.root_key_arn)] == [["kms:DescribeKey", "kms:GetPublicKey", "kms:Sign"]]
    error_message = "On the root: Sign, GetPublicKey, DescribeKey and nothing more."
  }
  assert {
    condition     = [for s in jsondecode(output.bootstrap_policy).Statement : s.Action if contains(s.Resource, var.sealing_key_arn)] == [["kms:Decrypt", "kms:DescribeKey", "kms:Encrypt"]]
    error_message = "On the sealing key: Encrypt and Decrypt."
  }
  assert {
    condition     = !strcontains(output.bootstrap_policy, "kms:Create") && !strcontains(output.bootstrap_policy, "CreateTable") && !strcontains(output.bootstrap_policy, "iam:")
    error_message = "It makes nothing, unless told."
  }
  assert {
    condition     = [for s in jsondecode(output.bootstrap_policy).Statement : s.Resource if contains(s.Action, "secretsmanager:PutSecretValue")] == [[var.secret_arn]]
    error_message = "It writes the one secret."
  }
  assert {
    condition     = aws_iam_policy.bootstrap.name == "airunner-prod-bootstrap" && aws_iam_policy.bootstrap.policy == output.bootstrap_policy
    error_message = "The policy is there to be attached."
  }
}

run "create_key_lets_bootstrap_make_and_name_keys" {
  command = plan
  module {
    source = "./modules/iam"
  }
  variables {
    bootstrap_create_key = true
  }

  assert {
    condition     = [for s in jsondecode(output.bootstrap_policy).Statement : s.Action if s.Sid == "CreateKey" || s.Sid == "NameKey"] == [["kms:CreateKey", "kms:TagResource"], ["kms:CreateAlias"]]
    error_message = "A key is made, tagged and named."
  }
  assert {
    condition     = !strcontains(output.task_policy, "kms:Create")
    error_message = "Servers make no keys."
  }
}

run "a_key_of_the_customers_is_used_through_services_alone" {
  command = plan
  module {
    source = "./modules/iam"
  }
  variables {
    encryption_key_arn = "arn:aws:kms:eu-central-1:123456789012:key/data"
  }

  assert {
    condition     = [for s in jsondecode(output.task_policy).Statement : keys(s.Condition.StringEquals) if contains(s.Resource, "arn:aws:kms:eu-central-1:123456789012:key/data")] == [["kms:ViaService"]]
    error_message = "The data key is never used directly."
  }
}
