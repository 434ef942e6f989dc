# What somebody must be told of. A network load balancer sees no HTTP status: what stands for 5xx there is resets by
# servers, targets that fail, and connections that found no port.

locals {
  # Each of them over the balancer as a whole or one group of targets.
  balancer = merge(
    {
      resets     = { metric = "TCP_Target_Reset_Count", statistic = "Sum", threshold = var.reset_threshold, periods = 5, group = null }
      elb-resets = { metric = "TCP_ELB_Reset_Count", statistic = "Sum", threshold = var.reset_threshold, periods = 5, group = null }
      no-port    = { metric = "PortAllocationErrorCount", statistic = "Sum", threshold = 0, periods = 1, group = null }
      blocked    = { metric = "SecurityGroupBlockedFlowCount_Inbound_TCP", statistic = "Sum", threshold = var.blocked_threshold, periods = 5, group = null }
    },
    {
      for name, group in var.target_groups : "unhealthy-${name}" =>
      { metric = "UnHealthyHostCount", statistic = "Maximum", threshold = 0, periods = 3, group = group }
    },
  )
  service = {
    cpu    = { metric = "CPUUtilization", threshold = 85 }
    memory = { metric = "MemoryUtilization", threshold = 85 }
  }
}

resource "aws_cloudwatch_metric_alarm" "balancer" {
  for_each = local.balancer

  alarm_name          = "${var.name}-${each.key}"
  alarm_description   = "airunner: ${each.value.metric} of the load balancer"
  namespace           = "AWS/NetworkELB"
  metric_name         = each.value.metric
  statistic           = each.value.statistic
  comparison_operator = "GreaterThanThreshold"
  threshold           = each.value.threshold
  period              = 60
  evaluation_periods  = each.value.periods
  treat_missing_data  = "notBreaching"
  dimensions          = merge({ LoadBalancer = var.balancer }, each.value.group == null ? {} : { TargetGroup = each.value.group })
  alarm_actions       = var.topic_arns
  ok_actions          = var.topic_arns

  tags = { Name = "${var.name}-${each.key}" }
}

resource "aws_cloudwatch_metric_alarm" "service" {
  for_each = local.service

  alarm_name          = "${var.name}-${each.key}"
  alarm_description   = "airunner: ${each.value.metric} of the servers, percent"
  namespace           = "AWS/ECS"
  metric_name         = each.value.metric
  statistic           = "Average"
  comparison_operator = "GreaterThanThreshold"
  threshold           = each.value.threshold
  period              = 60
  evaluation_periods  = 5
  treat_missing_data  = "notBreaching"
  dimensions          = { ClusterName = var.cluster, ServiceName = var.service }
  alarm_actions       = var.topic_arns
  ok_actions          = var.topic_arns

  tags = { Name = "${var.name}-${each.key}" }
}

# A request that DynamoDB refused for now, of a table or of an index of its: the SDK asks again, and clients wait.
resource "aws_cloudwatch_metric_alarm" "throttled" {
  for_each = var.tables

  alarm_name          = "${var.name}-throttled-${each.key}"
  alarm_description   = "airunner: throttled reads and writes of ${each.value}"
  comparison_operator = "GreaterThanThreshold"
  threshold           = 0
  evaluation_periods  = 3
  datapoints_to_alarm = 2
  treat_missing_data  = "notBreaching"
  alarm_actions       = var.topic_arns
  ok_actions          = var.topic_arns

  metric_query {
    id          = "throttled"
    expression  = "FILL(reads, 0) + FILL(writes, 0)"
    label       = "throttled"
    return_data = true
  }

  dynamic "metric_query" {
    for_each = { reads = "ReadThrottleEvents", writes = "WriteThrottleEvents" }
    content {
      id = metric_query.key
      metric {
        namespace   = "AWS/DynamoDB"
        metric_name = metric_query.value
        stat        = "Sum"
        period      = 60
        dimensions  = { TableName = each.value }
      }
    }
  }

  tags = { Name = "${var.name}-throttled-${each.key}" }
}

# KMS counts no failures of a key: what servers log of them is counted.
resource "aws_cloudwatch_log_metric_filter" "kms" {
  name           = "${var.name}-kms-errors"
  log_group_name = var.log_group
  pattern        = "%ERROR.*[Kk][Mm][Ss]%"

  metric_transformation {
    namespace     = "airunner"
    name          = "${var.name}-kms-errors"
    value         = "1"
    default_value = "0"
  }
}

resource "aws_cloudwatch_metric_alarm" "kms" {
  alarm_name          = "${var.name}-kms-errors"
  alarm_description   = "airunner: servers log that KMS refuses or fails them"
  namespace           = aws_cloudwatch_log_metric_filter.kms.metric_transformation[0].namespace
  metric_name         = aws_cloudwatch_log_metric_filter.kms.metric_transformation[0].name
  statistic           = "Sum"
  comparison_operator = "GreaterThanThreshold"
  threshold           = 0
  period              = 60
  evaluation_periods  = 1
  treat_missing_data  = "notBreaching"
  alarm_actions       = var.topic_arns
  ok_actions          = var.topic_arns

  tags = { Name = "${var.name}-kms-errors" }
}
