# What may reach what: clients the balancer, the balancer the servers, the servers AWS. Nothing else.

locals {
  # Ports of the balancer, each with who may reach it. Plain HTTP is for those only who are named.
  open = merge(
    { for cidr in var.client_cidrs : "443 ${cidr}" => { port = 443, cidr = cidr } },
    { for cidr in var.client_cidrs : "8444 ${cidr}" => { port = 8444, cidr = cidr } },
    { for cidr in var.public_http_cidrs : "80 ${cidr}" => { port = 80, cidr = cidr } },
    { for cidr in var.public_http_cidrs : "8080 ${cidr}" => { port = 8080, cidr = cidr } },
  )
  # Ports of a server that the balancer uses: 8080 for its health checks at least.
  server_ports = toset(["8443", "8444", "8080"])
}

resource "aws_security_group" "balancer" {
  #checkov:skip=CKV2_AWS_5:The balancer module uses it
  name        = "${var.name}-balancer"
  description = "airunner: the load balancer"
  vpc_id      = var.vpc_id

  tags = { Name = "${var.name}-balancer" }
}

resource "aws_vpc_security_group_ingress_rule" "balancer" {
  for_each = local.open

  security_group_id = aws_security_group.balancer.id
  description       = "Clients"
  ip_protocol       = "tcp"
  from_port         = each.value.port
  to_port           = each.value.port
  cidr_ipv4         = strcontains(each.value.cidr, ":") ? null : each.value.cidr
  cidr_ipv6         = strcontains(each.value.cidr, ":") ? each.value.cidr : null
}

resource "aws_vpc_security_group_egress_rule" "balancer" {
  for_each = local.server_ports

  security_group_id            = aws_security_group.balancer.id
  description                  = "Servers"
  ip_protocol                  = "tcp"
  from_port                    = each.value
  to_port                      = each.value
  referenced_security_group_id = aws_security_group.server.id
}

resource "aws_security_group" "server" {
  #checkov:skip=CKV2_AWS_5:The service module uses it
  name        = "${var.name}-server"
  description = "airunner: the servers"
  vpc_id      = var.vpc_id

  tags = { Name = "${var.name}-server" }
}

resource "aws_vpc_security_group_ingress_rule" "server" {
  for_each = local.server_ports

  security_group_id            = aws_security_group.server.id
  description                  = "The load balancer"
  ip_protocol                  = "tcp"
  from_port                    = each.value
  to_port                      = each.value
  referenced_security_group_id = aws_security_group.balancer.id
}

resource "aws_vpc_security_group_ingress_rule" "metrics" {
  for_each = var.metrics_cidrs

  security_group_id = aws_security_group.server.id
  description       = "Prometheus"
  ip_protocol       = "tcp"
  from_port         = 9464
  to_port           = 9464
  cidr_ipv4         = strcontains(each.value, ":") ? null : each.value
  cidr_ipv6         = strcontains(each.value, ":") ? each.value : null
}

resource "aws_vpc_security_group_egress_rule" "server" {
  for_each = { ipv4 = "0.0.0.0/0", ipv6 = "::/0" }

  security_group_id = aws_security_group.server.id
  description       = "AWS, and the registry of the image"
  ip_protocol       = "tcp"
  from_port         = 443
  to_port           = 443
  cidr_ipv4         = each.key == "ipv4" ? each.value : null
  cidr_ipv6         = each.key == "ipv6" ? each.value : null
}
