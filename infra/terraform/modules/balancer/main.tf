# Passes TCP through: TLS is between client and server, since the client's identity is the connection. Who the client is
# on the network reaches the server in a PROXY v2 header.

locals {
  ports = merge({ api = 8443, public = 8444 }, var.with_plain_http ? { plain = 8080 } : {})
  listeners = merge(
    { "443" = "api", "8444" = "public" },
    var.with_plain_http ? { "80" = "plain", "8080" = "plain" } : {},
  )
}

resource "aws_lb" "this" {
  #checkov:skip=CKV_AWS_91:A network load balancer logs TLS connections alone, and these pass through it; servers log every call with the client's address
  name                             = var.name
  load_balancer_type               = "network"
  internal                         = var.internal
  ip_address_type                  = var.dual_stack ? "dualstack" : "ipv4"
  subnets                          = var.subnet_ids
  security_groups                  = [var.security_group_id]
  enable_cross_zone_load_balancing = true
  enable_deletion_protection       = var.deletion_protection

  tags = { Name = var.name }
}

resource "aws_lb_target_group" "this" {
  for_each = local.ports

  name                   = "${var.name}-${each.key}"
  vpc_id                 = var.vpc_id
  protocol               = "TCP"
  port                   = each.value
  target_type            = "ip"
  proxy_protocol_v2      = true
  preserve_client_ip     = "false"
  deregistration_delay   = var.drain_seconds
  connection_termination = true

  health_check {
    protocol            = "HTTP"
    port                = "8080"
    path                = "/health"
    matcher             = "200"
    interval            = 10
    timeout             = 5
    healthy_threshold   = 2
    unhealthy_threshold = 2
  }

  tags = { Name = "${var.name}-${each.key}" }
}

resource "aws_lb_listener" "this" {
  for_each = local.listeners

  load_balancer_arn = aws_lb.this.arn
  port              = each.key
  protocol          = "TCP"

  default_action {
    type             = "forward"
    target_group_arn = aws_lb_target_group.this[each.value].arn
  }

  tags = { Name = "${var.name}-${each.key}" }
}
