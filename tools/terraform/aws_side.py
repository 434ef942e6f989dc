"""An environment as AWS sees it: what bootstrap makes and writes there, and what must be so. Asks over the wire, as the
AWS CLI would, and knows nothing of Terraform."""

import json
from pathlib import Path

import boto3

PARAMETERS = {"ca-cert": "String", "server-cert": "String", "server-key": "SecureString"}
KEYS = {
    "ca": {"KeySpec": "ECC_NIST_P256", "KeyUsage": "SIGN_VERIFY"},
    "sealing": {"KeySpec": "SYMMETRIC_DEFAULT", "KeyUsage": "ENCRYPT_DECRYPT"},
}
# Longer than the standard tier takes, as a bundle of several roots may be.
BUNDLE = "-----BEGIN CERTIFICATE-----\n" + "A" * 5_000
CA_KEY = "what only bootstrap may read"


def must(condition: bool, message: str) -> None:
    """Unlike `assert` it holds under -O too."""
    if not condition:
        raise AssertionError(message)


class Account:
    """An account with one environment in it."""

    def __init__(self, endpoint: str, region: str, environment: str) -> None:
        self.environment = environment
        self.endpoint, self.region = endpoint, region
        self.session = boto3.session.Session(
            aws_access_key_id="test", aws_secret_access_key="test", region_name=region
        )
        self.before: dict[str, str] = {}

    def client(self, service: str):
        return self.session.client(service, endpoint_url=self.endpoint)

    # What bootstrap does.

    def create(self, module: Path) -> None:
        """What `bootstrap --create` makes where Terraform has not been."""
        dynamodb, kms = self.client("dynamodb"), self.client("kms")
        for name, table in tables(module).items():
            dynamodb.create_table(
                TableName=self.table(name), BillingMode="PAY_PER_REQUEST", SSESpecification={"Enabled": True},
                **keys_of(table),
            )
            recoverable = {"PointInTimeRecoveryEnabled": True}
            dynamodb.update_continuous_backups(
                TableName=self.table(name), PointInTimeRecoverySpecification=recoverable
            )
            if table["ttl"]:
                ttl = {"Enabled": True, "AttributeName": table["ttl"]}
                dynamodb.update_time_to_live(TableName=self.table(name), TimeToLiveSpecification=ttl)
        for name, spec in KEYS.items():
            key = kms.create_key(**spec)["KeyMetadata"]["KeyId"]
            kms.create_alias(AliasName=self.alias(name), TargetKeyId=key)
        for name, kind in PARAMETERS.items():
            self.client("ssm").put_parameter(Name=self.path(name), Type=kind, Value="placeholder")
        self.client("secretsmanager").create_secret(Name=self.path("ca-key"))
        place = {"LocationConstraint": self.region}
        self.client("s3").create_bucket(Bucket=self.bucket(), CreateBucketConfiguration=place)

    def bootstrap(self) -> None:
        """What bootstrap writes into what is there: it must find the placeholders, and leaves none."""
        ssm = self.client("ssm")
        for name, kind in PARAMETERS.items():
            found = ssm.get_parameter(Name=self.path(name), WithDecryption=True)["Parameter"]
            must((found["Type"], found["Value"]) == (kind, "placeholder"), f"{name} is {found['Type']}, {found['Value']}")
            tier = {"Tier": "Advanced"} if name == "ca-cert" else {}
            ssm.put_parameter(Name=self.path(name), Type=kind, Value=self.value(name), Overwrite=True, **tier)
        self.client("secretsmanager").put_secret_value(SecretId=self.path("ca-key"), SecretString=CA_KEY)
        item = {"principal_id": {"S": "admin"}, "status": {"S": "active"}, "type": {"S": "admin"}}
        self.client("dynamodb").put_item(TableName=self.table("principals"), Item=item)
        must(len(self.keys()) == len(KEYS), f"keys are {self.keys()}")
        self.before = self.once_made()

    # What must be so.

    def is_as_bootstrapped(self) -> None:
        """Nothing that bootstrap made or wrote was changed by what came after."""
        for name, kind in PARAMETERS.items():
            found = self.client("ssm").get_parameter(Name=self.path(name), WithDecryption=True)["Parameter"]
            must((found["Type"], found["Value"]) == (kind, self.value(name)), f"{name} was overwritten")
        secret = self.client("secretsmanager").get_secret_value(SecretId=self.path("ca-key"))
        must(secret["SecretString"] == CA_KEY, "the CA's key was overwritten")
        key = {"principal_id": {"S": "admin"}}
        must("Item" in self.client("dynamodb").get_item(TableName=self.table("principals"), Key=key), "admin is gone")
        must(self.once_made() == self.before, f"there were {self.before} and there are {self.once_made()}")

    def tables_are(self, module: Path) -> None:
        """Keys, indexes and time to live of every table are those of the description, and there is no other table."""
        dynamodb = self.client("dynamodb")
        described = tables(module)
        found = sorted(name for page in dynamodb.get_paginator("list_tables").paginate() for name in page["TableNames"])
        must(found == sorted(map(self.table, described)), f"tables are {found}")
        for name, table in described.items():
            is_now = dynamodb.describe_table(TableName=self.table(name))["Table"]
            wanted = keys_of(table)
            must(is_now["KeySchema"] == wanted["KeySchema"], f"the key of {name} is {is_now['KeySchema']}")
            must(by_name(is_now, "AttributeDefinitions", "AttributeName") == by_name(wanted, "AttributeDefinitions", "AttributeName"), f"attributes of {name}")
            indexes = {index: (schema["KeySchema"], schema["Projection"]) for index, schema in by_name(is_now, "GlobalSecondaryIndexes", "IndexName").items()}
            expected = {index: (schema["KeySchema"], schema["Projection"]) for index, schema in by_name(wanted, "GlobalSecondaryIndexes", "IndexName").items()}
            must(indexes == expected, f"indexes of {name} are {indexes}, and not {expected}")
            ttl = dynamodb.describe_time_to_live(TableName=self.table(name))["TimeToLiveDescription"]
            must(ttl.get("AttributeName") == table["ttl"], f"time to live of {name} is {ttl}")

    def plain_port_is_closed(self) -> None:
        """8080 is reached from the balancer's group alone, and the balancer does not listen there."""
        groups = {group["GroupName"]: group for group in self.client("ec2").describe_security_groups()["SecurityGroups"]}
        server, balancer = groups[f"airunner-{self.environment}-server"], groups[f"airunner-{self.environment}-balancer"]
        plain = [rule for rule in server["IpPermissions"] if rule["FromPort"] <= 8080 <= rule["ToPort"]]
        sources = [pair["GroupId"] for rule in plain for pair in rule["UserIdGroupPairs"]]
        addresses = [rule["IpRanges"] + rule["Ipv6Ranges"] for rule in plain]
        must(sources == [balancer["GroupId"]] and not any(addresses), f"8080 is open to {plain}")
        ports = sorted({rule["FromPort"] for rule in balancer["IpPermissions"]})
        must(ports == [443, 8444], f"the balancer is reached at {ports}")
        elb = self.client("elbv2")
        arn = elb.describe_load_balancers()["LoadBalancers"][0]["LoadBalancerArn"]
        listeners = elb.describe_listeners(LoadBalancerArn=arn)["Listeners"]
        must(sorted(listener["Port"] for listener in listeners) == [443, 8444], f"listeners are {listeners}")

    def secret_is_not_in(self, state: str) -> None:
        """Of the CA's key no Terraform state knows."""
        must("module.secret" in state and CA_KEY not in state, "the state holds the CA's key")

    def is_empty(self) -> None:
        """Nothing that costs or keeps anything is left."""
        left = {
            "tables": self.client("dynamodb").list_tables()["TableNames"],
            "buckets": self.client("s3").list_buckets()["Buckets"],
            "parameters": self.client("ssm").describe_parameters()["Parameters"],
            "secrets": self.client("secretsmanager").list_secrets()["SecretList"],
            "balancers": self.client("elbv2").describe_load_balancers()["LoadBalancers"],
            "clusters": self.clusters(),
            "roles": self.client("iam").list_roles()["Roles"],
            "aliases": [alias for alias in self.client("kms").list_aliases()["Aliases"] if "airunner" in alias["AliasName"]],
            "alarms": self.client("cloudwatch").describe_alarms()["MetricAlarms"],
            "log groups": self.client("logs").describe_log_groups()["logGroups"],
            "addresses": self.client("ec2").describe_addresses()["Addresses"],
            "networks": [vpc for vpc in self.client("ec2").describe_vpcs()["Vpcs"] if not vpc["IsDefault"]],
        }
        must(not any(left.values()), f"left are {({kind: some for kind, some in left.items() if some})}")

    # What things are called.

    def table(self, name: str) -> str:
        return f"airunner_{self.environment}_{name}"

    def path(self, name: str) -> str:
        return f"/airunner/{self.environment}/{name}"

    def alias(self, name: str) -> str:
        return f"alias/airunner-{self.environment}-{name}"

    def bucket(self) -> str:
        account = self.client("sts").get_caller_identity()["Account"]
        return f"airunner-{self.environment}-output-{account}"

    def value(self, name: str) -> str:
        return BUNDLE if name == "ca-cert" else f"{name}, by bootstrap"

    def once_made(self) -> dict[str, str]:
        """What tells a key and a bucket from others that were made under the same name."""
        buckets = self.client("s3").list_buckets()["Buckets"]
        return self.keys() | {bucket["Name"]: str(bucket["CreationDate"]) for bucket in buckets}

    def clusters(self) -> list[str]:
        """Those that are not deleted; AWS goes on telling of deleted ones for a while."""
        ecs = self.client("ecs")
        told = ecs.describe_clusters(clusters=ecs.list_clusters()["clusterArns"])["clusters"]
        return [cluster["clusterArn"] for cluster in told if cluster["status"] != "INACTIVE"]

    def keys(self) -> dict[str, str]:
        aliases = self.client("kms").list_aliases()["Aliases"]
        return {alias["AliasName"]: alias["TargetKeyId"] for alias in aliases if "airunner" in alias["AliasName"]}


def tables(module: Path) -> dict:
    return json.loads((module / "modules/tables/tables.json").read_text())


def keys_of(table: dict) -> dict:
    """Keys and indexes of a table, as DynamoDB is told of them."""
    indexes = [
        {
            "IndexName": name,
            "KeySchema": schema(index),
            "Projection": {"ProjectionType": index["projection"]}
            | ({"NonKeyAttributes": index["attributes"]} if index["attributes"] else {}),
        }
        for name, index in table["indexes"].items()
    ]
    parts = [part for key in [table, *table["indexes"].values()] for part in (key["hash"], key["range"]) if part]
    attributes = {part["name"]: part["type"] for part in parts}
    told = {
        "KeySchema": schema(table),
        "AttributeDefinitions": [{"AttributeName": name, "AttributeType": kind} for name, kind in attributes.items()],
    }
    return told | ({"GlobalSecondaryIndexes": indexes} if indexes else {})


def schema(key: dict) -> list[dict]:
    parts = [(key["hash"], "HASH"), (key["range"], "RANGE")]
    return [{"AttributeName": part["name"], "KeyType": kind} for part, kind in parts if part]


def by_name(answer: dict, what: str, name: str) -> dict:
    return {one[name]: one for one in answer.get(what) or []}
