"""Runs moto, with what it leaves out of its answers put right where Terraform would otherwise wait for ever or find a
change that nobody made. Each of these is the emulator's omission, and none of them is about what we write."""

import json
import sys
import threading

from moto.applicationautoscaling.responses import ApplicationAutoScalingResponse
from moto.ec2.models.security_groups import SecurityGroupRule
from moto.ec2.models.subnets import Subnet
from moto.ecs.responses import EC2ContainerServiceResponse
from moto.moto_server.werkzeug_app import DomainDispatcherApplication
from moto.server import main

ONE_AT_A_TIME = threading.Lock()
TAGS_OF_TARGETS: dict[str, dict[str, str]] = {}


def ipv6_associations(subnet: Subnet) -> list[dict]:
    """moto tells the state as the text of a dictionary, for which Terraform waits in vain."""
    return [
        {**association, "ipv6CidrBlockState": {"state": "associated"}}
        for association in subnet.ipv6_cidr_block_associations.values()
        if association["ipv6CidrBlockState"]["State"] == "associated"
    ]


def description_of_rule(rule: SecurityGroupRule) -> str | None:
    """moto forgets the description of a rule that names a group."""
    return rule.ip_range.get("Description") or rule.source_group.get("Description")


def with_tags(register):
    """moto drops the tags of a scalable target."""

    def register_scalable_target(self: ApplicationAutoScalingResponse) -> str:
        answer = register(self)
        tags = self._get_param("Tags")
        if tags is not None:
            TAGS_OF_TARGETS[json.loads(answer)["ScalableTargetARN"]] = tags
        return answer

    return register_scalable_target


def list_tags_of_target(self: ApplicationAutoScalingResponse) -> str:
    """moto knows no such call, and so Terraform asks until it gives up."""
    return json.dumps({"Tags": TAGS_OF_TARGETS.get(self._get_param("ResourceARN"), {})})


def with_grace_period(call):
    """moto drops a service's grace period."""

    def create_or_update(self: EC2ContainerServiceResponse):
        answer = call(self)
        seconds = self._get_param("healthCheckGracePeriodSeconds")
        if seconds is not None:
            answer.result["service"].health_check_grace_period_seconds = int(seconds)
        return answer

    return create_or_update


def one_at_a_time(call):
    """moto changes what it holds without a lock, and so fails now and then in the middle of what Terraform does at once."""

    def answer(self: DomainDispatcherApplication, environ, start_response):
        with ONE_AT_A_TIME:
            return call(self, environ, start_response)

    return answer


DomainDispatcherApplication.__call__ = one_at_a_time(DomainDispatcherApplication.__call__)
Subnet.ipv6_cidr_block_association_set = property(ipv6_associations)
SecurityGroupRule.description = property(description_of_rule)
ApplicationAutoScalingResponse.register_scalable_target = with_tags(
    ApplicationAutoScalingResponse.register_scalable_target
)
ApplicationAutoScalingResponse.list_tags_for_resource = list_tags_of_target
EC2ContainerServiceResponse.create_service = with_grace_period(EC2ContainerServiceResponse.create_service)
EC2ContainerServiceResponse.update_service = with_grace_period(EC2ContainerServiceResponse.update_service)

if __name__ == "__main__":
    main(sys.argv[1:])
