# Where the environment stands: a VPC and subnets, made where none are given. Balancers stand in public subnets, servers
# in private ones that reach out by NAT (IPv6 by an egress-only gateway) and reach S3 and DynamoDB by gateway endpoints.

data "aws_region" "current" {}

data "aws_availability_zones" "this" {
  #checkov:skip=CKV_AWS_394:Subnets keep the zone that they were made in, whatever zones come
  count = local.make_subnets ? 1 : 0
  state = "available"

  # Local zones have no network load balancers.
  filter {
    name   = "opt-in-status"
    values = ["opt-in-not-required"]
  }
}

locals {
  make_vpc     = var.vpc_id == null
  make_subnets = length(var.subnet_ids) == 0

  vpc_id  = local.make_vpc ? aws_vpc.this[0].id : var.vpc_id
  gateway = one(concat(aws_internet_gateway.this[*].id, data.aws_internet_gateway.given[*].internet_gateway_id))

  zones      = local.make_subnets ? { for i in range(var.zones) : tostring(i) => data.aws_availability_zones.this[0].names[i] } : {}
  nat_zones  = { for i, zone in local.zones : i => zone if var.nat_per_zone || i == "0" }
  ipv6_block = one(concat(aws_vpc.this[*].ipv6_cidr_block, data.aws_vpc.given[*].ipv6_cidr_block))
}

# What is given.

data "aws_vpc" "given" {
  count = !local.make_vpc && local.make_subnets ? 1 : 0
  id    = var.vpc_id
}

data "aws_internet_gateway" "given" {
  count = !local.make_vpc && local.make_subnets ? 1 : 0

  filter {
    name   = "attachment.vpc-id"
    values = [var.vpc_id]
  }
}

data "aws_subnet" "balancer" {
  for_each = length(var.balancer_subnet_ids) > 0 ? var.balancer_subnet_ids : var.subnet_ids
  id       = each.value
}

# What is not.

resource "aws_vpc" "this" {
  #checkov:skip=CKV2_AWS_11:Flow logs cost more than this network and belong to the account: who wants them adds them to the output vpc_id
  count = local.make_vpc ? 1 : 0

  cidr_block                       = var.cidr
  assign_generated_ipv6_cidr_block = var.dual_stack
  enable_dns_hostnames             = true
  enable_dns_support               = true

  tags = { Name = var.name }
}

# Nothing uses it: a group that lets nothing through harms nobody who falls into it.
resource "aws_default_security_group" "this" {
  count  = local.make_vpc ? 1 : 0
  vpc_id = aws_vpc.this[0].id

  tags = { Name = "${var.name}-unused" }
}

resource "aws_internet_gateway" "this" {
  count  = local.make_vpc ? 1 : 0
  vpc_id = aws_vpc.this[0].id

  tags = { Name = var.name }
}

resource "aws_subnet" "public" {
  for_each = local.zones

  vpc_id            = local.vpc_id
  availability_zone = each.value
  cidr_block        = cidrsubnet(var.cidr, 4, tonumber(each.key))
  ipv6_cidr_block   = var.dual_stack ? cidrsubnet(local.ipv6_block, 8, var.ipv6_offset + tonumber(each.key)) : null

  tags = { Name = "${var.name}-public-${each.value}" }

  lifecycle {
    # A zone that AWS adds must not move what is there.
    ignore_changes = [availability_zone]
  }
}

resource "aws_subnet" "private" {
  for_each = local.zones

  vpc_id            = local.vpc_id
  availability_zone = each.value
  cidr_block        = cidrsubnet(var.cidr, 4, 8 + tonumber(each.key))
  ipv6_cidr_block   = var.dual_stack ? cidrsubnet(local.ipv6_block, 8, var.ipv6_offset + 8 + tonumber(each.key)) : null

  tags = { Name = "${var.name}-private-${each.value}" }

  lifecycle {
    ignore_changes = [availability_zone]
  }
}

resource "aws_route_table" "public" {
  count  = local.make_subnets ? 1 : 0
  vpc_id = local.vpc_id

  tags = { Name = "${var.name}-public" }
}

resource "aws_route" "public" {
  count = local.make_subnets ? 1 : 0

  route_table_id         = aws_route_table.public[0].id
  destination_cidr_block = "0.0.0.0/0"
  gateway_id             = local.gateway
}

resource "aws_route" "public_ipv6" {
  count = local.make_subnets && var.dual_stack ? 1 : 0

  route_table_id              = aws_route_table.public[0].id
  destination_ipv6_cidr_block = "::/0"
  gateway_id                  = local.gateway
}

resource "aws_route_table_association" "public" {
  for_each = local.zones

  subnet_id      = aws_subnet.public[each.key].id
  route_table_id = aws_route_table.public[0].id
}

resource "aws_eip" "nat" {
  for_each = local.nat_zones
  domain   = "vpc"

  tags = { Name = "${var.name}-nat-${each.value}" }
}

resource "aws_nat_gateway" "this" {
  for_each = local.nat_zones

  allocation_id = aws_eip.nat[each.key].id
  subnet_id     = aws_subnet.public[each.key].id

  tags = { Name = "${var.name}-${each.value}" }

  depends_on = [aws_route.public]
}

resource "aws_egress_only_internet_gateway" "this" {
  count  = local.make_subnets && var.dual_stack ? 1 : 0
  vpc_id = local.vpc_id

  tags = { Name = var.name }
}

resource "aws_route_table" "private" {
  for_each = local.zones
  vpc_id   = local.vpc_id

  tags = { Name = "${var.name}-private-${each.value}" }
}

resource "aws_route" "private" {
  for_each = local.zones

  route_table_id         = aws_route_table.private[each.key].id
  destination_cidr_block = "0.0.0.0/0"
  nat_gateway_id         = aws_nat_gateway.this[var.nat_per_zone ? each.key : "0"].id
}

resource "aws_route" "private_ipv6" {
  for_each = var.dual_stack ? local.zones : {}

  route_table_id              = aws_route_table.private[each.key].id
  destination_ipv6_cidr_block = "::/0"
  egress_only_gateway_id      = aws_egress_only_internet_gateway.this[0].id
}

resource "aws_route_table_association" "private" {
  for_each = local.zones

  subnet_id      = aws_subnet.private[each.key].id
  route_table_id = aws_route_table.private[each.key].id
}

resource "aws_vpc_endpoint" "gateway" {
  for_each = local.make_subnets ? toset(["dynamodb", "s3"]) : []

  vpc_id            = local.vpc_id
  service_name      = "com.amazonaws.${data.aws_region.current.id}.${each.value}"
  vpc_endpoint_type = "Gateway"
  route_table_ids   = [for table in aws_route_table.private : table.id]

  tags = { Name = "${var.name}-${each.value}" }
}
