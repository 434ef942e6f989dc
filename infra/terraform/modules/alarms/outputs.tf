output "names" {
  description = "Every alarm."
  value = sort(concat(
    [for alarm in aws_cloudwatch_metric_alarm.balancer : alarm.alarm_name],
    [for alarm in aws_cloudwatch_metric_alarm.service : alarm.alarm_name],
    [for alarm in aws_cloudwatch_metric_alarm.throttled : alarm.alarm_name],
    [aws_cloudwatch_metric_alarm.kms.alarm_name],
  ))
}
