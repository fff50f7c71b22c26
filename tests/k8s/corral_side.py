"""A gateway before the cluster: its targets, its people and its rules."""

import secrets

from harness.gateway import Gateway
from sides import Side

# One cluster, reached in several ways.
TARGETS = """
kind: Target
name: {name}
protocol: kubernetes
address: {address}
tls: {{mode: verify-full, ca_file: {ca_file}}}
credential: {credential}
options: {options}
"""

PEOPLE = """
kind: User
name: ada@example.com
groups: [agents, devs]
password: {env: ADA_PASSWORD}
---
kind: Policy
name: everything
cedar: |
  permit (principal in Corral::Group::"agents", action, resource);
"""


class ClusterGateway(Gateway):
    """A gateway whose targets are one cluster. Ada may do everything at them."""

    def __init__(self, cluster):
        super().__init__()
        self.cluster = cluster
        self.password = secrets.token_urlsafe(16)
        try:
            self.apply(PEOPLE, env={"ADA_PASSWORD": self.password})
            self.add_target("cluster")
            self.ada = self.login("ada@example.com", self.password)
        except BaseException:
            self.close()
            raise

    def add_target(self, name, user="admin", options="{}", credential=None,
                   ca_file=None):
        token_file = self.folder / f"{name}.token"
        token_file.write_text(self.cluster.tokens[user])
        manifest = TARGETS.format(
            name=name, address=self.cluster.address, ca_file=ca_file or self.cluster.ca_file,
            credential=credential or f"{{token: {{file: {token_file}}}}}", options=options)
        self.apply(manifest)

    def side(self, name, target, run=None):
        """The way to a target as a run of Ada's."""
        run = run or self.start_run(name, self.ada, "--ttl", "1h")
        server = f"{self.ready['api']}/k8s/{target}"
        side = Side(name, self.cluster, server, self.ready["ca_file"], {"token": run["token"]},
                    run["token"])
        side.run = run
        return side
