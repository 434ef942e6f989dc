# For trying things: one small server, one NAT gateway, and `terraform destroy` takes everything.
environment = "dev"
region      = "eu-central-1"
domain      = "airunner.dev.example.com"
image       = "registry.example.com/airunner:0.1.0"

started             = false # until bootstrap has run
min_servers         = 1
max_servers         = 2
cpu                 = 256
memory              = 512
nat_per_zone        = false
deletion_protection = false
log_days            = 30
output_days         = 7
