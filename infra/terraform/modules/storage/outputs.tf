output "name" {
  description = "The bucket's name."
  value       = aws_s3_bucket.this.bucket
}

output "arn" {
  description = "The bucket."
  value       = aws_s3_bucket.this.arn
}

output "policy" {
  description = "Its policy, JSON."
  value       = aws_s3_bucket_policy.this.policy
}
