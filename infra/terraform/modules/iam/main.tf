# Who may do what, each no more than it needs: ECS to start a server, a server to serve, and whoever runs bootstrap.

data "aws_caller_identity" "current" {}
data "aws_partition" "current" {}
data "aws_region" "current" {}

locals {
  account   = data.aws_caller_identity.current.account_id
  partition = data.aws_partition.current.partition
  region    = data.aws_region.current.id
  name      = "airunner-${var.environment}"

  indexes = [for arn in var.table_arns : "${arn}/index/*"]

  # What DynamoDB itself checks of each part of a transaction, and what tells whether the tables are as the code has them.
  # There is no Scan: no request needs one.
  table_statements = [
    {
      Sid    = "Tables"
      Effect = "Allow"
      Action = [
        "dynamodb:BatchGetItem",
        "dynamodb:ConditionCheckItem",
        "dynamodb:DeleteItem",
        "dynamodb:DescribeTable",
        "dynamodb:GetItem",
        "dynamodb:PutItem",
        "dynamodb:Query",
        "dynamodb:UpdateItem",
      ]
      Resource = var.table_arns
    },
    { Sid = "Indexes", Effect = "Allow", Action = ["dynamodb:Query"], Resource = local.indexes },
  ]

  # Only where the data is under a key of the customer's does IAM have to say so; services use their own by themselves.
  encryption_statements = [
    for key in var.encryption_key_arn[*] : {
      Sid      = "EncryptedData"
      Effect   = "Allow"
      Action   = ["kms:Decrypt", "kms:GenerateDataKey"]
      Resource = [key]
      Condition = {
        StringEquals = {
          "kms:ViaService" = [for service in ["dynamodb", "s3", "secretsmanager", "ssm"] : "${service}.${local.region}.amazonaws.com"]
        }
      }
    }
  ]

  # The arms of a conditional must be of one type, and lists of statements never are.
  root_statements    = [for sid in var.root_online || var.single_ca ? ["RootKey"] : [] : merge({ Sid = sid, Resource = [var.root_key_arn] }, local.signs)]
  issuing_statements = [for sid in var.issuer == "kms" ? ["IssuingKey"] : [] : merge({ Sid = sid, Resource = [var.issuing_key_arn] }, local.signs)]
  signs              = { Effect = "Allow", Action = ["kms:DescribeKey", "kms:GetPublicKey", "kms:Sign"] }

  trust = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = { Service = "ecs-tasks.amazonaws.com" }
      Action    = "sts:AssumeRole"
      Condition = {
        StringEquals = { "aws:SourceAccount" = local.account }
        ArnLike      = { "aws:SourceArn" = "arn:${local.partition}:ecs:${local.region}:${local.account}:*" }
      }
    }]
  })
}

# A running server.

resource "aws_iam_role" "task" {
  name               = "${local.name}-task"
  description        = "airunner ${var.environment}: what a running server may do"
  assume_role_policy = local.trust

  tags = { Name = "${local.name}-task" }
}

resource "aws_iam_role_policy" "task" {
  name   = "${local.name}-task"
  role   = aws_iam_role.task.id
  policy = local.task_policy
}

locals {
  task_policy = jsonencode({
    Version = "2012-10-17"
    Statement = concat(
      local.table_statements,
      [
        {
          Sid      = "Parameters"
          Effect   = "Allow"
          Action   = ["ssm:GetParameter", "ssm:GetParameters"]
          Resource = values(var.parameter_arns)
        },
        { Sid = "Bucket", Effect = "Allow", Action = ["s3:ListBucket"], Resource = [var.bucket_arn] },
        {
          Sid      = "Objects"
          Effect   = "Allow"
          Action   = ["s3:AbortMultipartUpload", "s3:GetObject", "s3:PutObject"]
          Resource = ["${var.bucket_arn}/journal/*", "${var.bucket_arn}/output/*"]
        },
        # Not of the journal: what denies is not deleted.
        { Sid = "OutputEnds", Effect = "Allow", Action = ["s3:DeleteObject"], Resource = ["${var.bucket_arn}/output/*"] },
        { Sid = "SealingKey", Effect = "Allow", Action = ["kms:Decrypt", "kms:DescribeKey"], Resource = [var.sealing_key_arn] },
      ],
      local.root_statements,
      local.issuing_statements,
      local.encryption_statements,
    )
  })
}

# ECS, as it starts one.

resource "aws_iam_role" "execution" {
  name               = "${local.name}-execution"
  description        = "airunner ${var.environment}: what ECS may do to start a server"
  assume_role_policy = local.trust

  tags = { Name = "${local.name}-execution" }
}

resource "aws_iam_role_policy" "execution" {
  name   = "${local.name}-execution"
  role   = aws_iam_role.execution.id
  policy = local.execution_policy
}

locals {
  # An image of ECR needs rights on its repository; another's registry asks for none.
  ecr = try(regex("^(?P<account>[0-9]{12})\\.dkr\\.ecr\\.(?P<region>[a-z0-9-]+)\\.amazonaws\\.com(?:\\.cn)?/(?P<name>[^:@]+)", var.image), null)
  ecr_statements = flatten([
    for repository in local.ecr[*] : [
      # It is the one act that names no repository.
      { Sid = "Registry", Effect = "Allow", Action = ["ecr:GetAuthorizationToken"], Resource = ["*"] },
      {
        Sid      = "Image"
        Effect   = "Allow"
        Action   = ["ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"]
        Resource = ["arn:${local.partition}:ecr:${repository.region}:${repository.account}:repository/${repository.name}"]
      },
    ]
  ])

  execution_policy = jsonencode({
    Version = "2012-10-17"
    Statement = concat(
      [
        { Sid = "Parameters", Effect = "Allow", Action = ["ssm:GetParameters"], Resource = values(var.parameter_arns) },
        {
          Sid      = "Logs"
          Effect   = "Allow"
          Action   = ["logs:CreateLogStream", "logs:PutLogEvents"]
          Resource = ["arn:${local.partition}:logs:${local.region}:${local.account}:log-group:/ecs/${local.name}:*"]
        },
      ],
      local.ecr_statements,
      local.encryption_statements,
    )
  })
}

# Whoever runs `airunner-cli bootstrap`: attach it to a role or a user of yours. Bootstrap only looks whether the bucket
# is there.

resource "aws_iam_policy" "bootstrap" {
  name        = "${local.name}-bootstrap"
  description = "airunner ${var.environment}: what bootstrap may do"
  policy      = local.bootstrap_policy

  tags = { Name = "${local.name}-bootstrap" }
}

locals {
  bootstrap_policy = jsonencode({
    Version = "2012-10-17"
    Statement = concat(
      [
        merge({ Sid = "RootKey", Resource = [var.root_key_arn] }, local.signs),
        { Sid = "SealingKey", Effect = "Allow", Action = ["kms:Decrypt", "kms:DescribeKey", "kms:Encrypt"], Resource = [var.sealing_key_arn] },
      ],
      local.issuing_statements,
      local.table_statements,
      [
        {
          Sid      = "Parameters"
          Effect   = "Allow"
          Action   = ["ssm:GetParameter", "ssm:GetParameters", "ssm:PutParameter"]
          Resource = values(var.parameter_arns)
        },
        {
          Sid      = "CaKey"
          Effect   = "Allow"
          Action   = ["secretsmanager:DescribeSecret", "secretsmanager:GetSecretValue", "secretsmanager:PutSecretValue"]
          Resource = [var.secret_arn]
        },
      ],
      [{ Sid = "Bucket", Effect = "Allow", Action = ["s3:ListBucket"], Resource = [var.bucket_arn] }],
      local.create_key_statements,
      local.encryption_statements,
    )
  })

  create_key_statements = flatten([
    for _ in var.bootstrap_create_key ? ["yes"] : [] : [
      # A key has no name before it is made, and is tagged as it is made.
      { Sid = "CreateKey", Effect = "Allow", Action = ["kms:CreateKey", "kms:TagResource"], Resource = ["*"] },
      {
        Sid    = "NameKey"
        Effect = "Allow"
        Action = ["kms:CreateAlias"]
        Resource = concat(
          ["arn:${local.partition}:kms:${local.region}:${local.account}:key/*"],
          [for key in ["ca", "issuing", "sealing"] : "arn:${local.partition}:kms:${local.region}:${local.account}:alias/${local.name}-${key}"],
        )
      },
    ]
  ])
}
