# The servers: an ECS service on Fargate that grows with its load.

data "aws_region" "current" {}

resource "aws_cloudwatch_log_group" "this" {
  name              = "/ecs/${var.name}"
  retention_in_days = var.log_days
  kms_key_id        = var.encryption_key_arn

  tags = { Name = "/ecs/${var.name}" }
}

resource "aws_ecs_cluster" "this" {
  count = var.cluster_arn == null ? 1 : 0
  name  = var.name

  setting {
    name  = "containerInsights"
    value = "enabled"
  }

  tags = { Name = var.name }
}

locals {
  cluster_arn  = var.cluster_arn == null ? aws_ecs_cluster.this[0].arn : var.cluster_arn
  cluster_name = element(split("/", local.cluster_arn), -1)

  # Names are sorted: ECS keeps them as they come, and a new order would be a new revision.
  container = {
    name        = "airunner-server"
    image       = var.image
    essential   = true
    user        = "10001:10001"
    stopTimeout = var.drain_seconds + 30

    readonlyRootFilesystem = true
    linuxParameters        = { capabilities = { drop = ["ALL"] } }

    portMappings = [
      for port in [8080, 8443, 8444, 9464] : { containerPort = port, hostPort = port, protocol = "tcp" }
    ]
    environment = [for name in sort(keys(var.environment)) : { name = name, value = var.environment[name] }]
    secrets     = [for name in sort(keys(var.secrets)) : { name = name, valueFrom = var.secrets[name] }]
    ulimits     = [{ name = "nofile", softLimit = 65536, hardLimit = 65536 }]

    # The image declares /data a volume of the user that it runs as; nothing in it has to outlive the task.
    mountPoints = [{ sourceVolume = "data", containerPath = "/data", readOnly = false }]

    logConfiguration = {
      logDriver = "awslogs"
      options = {
        awslogs-group         = aws_cloudwatch_log_group.this.name
        awslogs-region        = data.aws_region.current.id
        awslogs-stream-prefix = "server"
      }
    }
  }
}

resource "aws_ecs_task_definition" "this" {
  family                   = var.name
  requires_compatibilities = ["FARGATE"]
  network_mode             = "awsvpc"
  cpu                      = var.cpu
  memory                   = var.memory
  execution_role_arn       = var.execution_role_arn
  task_role_arn            = var.task_role_arn
  container_definitions    = jsonencode([local.container])

  runtime_platform {
    operating_system_family = "LINUX"
    cpu_architecture        = var.cpu_architecture
  }

  volume {
    name = "data"
  }

  tags = { Name = var.name }
}

resource "aws_ecs_service" "this" {
  name            = var.name
  cluster         = local.cluster_arn
  task_definition = aws_ecs_task_definition.this.arn
  launch_type     = "FARGATE"
  desired_count   = var.min_servers
  propagate_tags  = "SERVICE"

  deployment_minimum_healthy_percent = 100
  deployment_maximum_percent         = 200
  health_check_grace_period_seconds  = 60

  deployment_circuit_breaker {
    enable   = true
    rollback = true
  }

  network_configuration {
    subnets          = var.subnet_ids
    security_groups  = [var.security_group_id]
    assign_public_ip = false
  }

  dynamic "load_balancer" {
    for_each = var.targets
    content {
      container_name   = "airunner-server"
      container_port   = load_balancer.value.port
      target_group_arn = load_balancer.value.arn
    }
  }

  tags = { Name = var.name }

  lifecycle {
    # The count is the autoscaler's; AWS decides on rebalancing where nothing is said, and reports what it decided.
    ignore_changes = [desired_count, availability_zone_rebalancing]
  }
}

resource "aws_appautoscaling_target" "this" {
  service_namespace  = "ecs"
  scalable_dimension = "ecs:service:DesiredCount"
  resource_id        = "service/${local.cluster_name}/${aws_ecs_service.this.name}"
  min_capacity       = var.min_servers
  max_capacity       = var.max_servers

  tags = { Name = var.name }
}

resource "aws_appautoscaling_policy" "this" {
  for_each = {
    cpu    = { metric = "ECSServiceAverageCPUUtilization", target = 60 }
    memory = { metric = "ECSServiceAverageMemoryUtilization", target = 70 }
  }

  name               = "${var.name}-${each.key}"
  policy_type        = "TargetTrackingScaling"
  service_namespace  = aws_appautoscaling_target.this.service_namespace
  scalable_dimension = aws_appautoscaling_target.this.scalable_dimension
  resource_id        = aws_appautoscaling_target.this.resource_id

  target_tracking_scaling_policy_configuration {
    target_value = each.value.target
    # Streams live long: a server that is taken away costs its clients a reconnection.
    scale_in_cooldown  = 600
    scale_out_cooldown = 60
    predefined_metric_specification {
      predefined_metric_type = each.value.metric
    }
  }
}
