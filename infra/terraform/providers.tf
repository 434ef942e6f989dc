provider "aws" {
  region = var.region

  default_tags {
    tags = merge({ Application = "airunner", Environment = var.environment, ManagedBy = "terraform" }, var.tags)
  }
}
