"""Renders the base and every overlay, validates what comes out, and checks what no schema knows.

Needs kubectl, for its kustomize, and the packages of .ci/requirements.txt.
"""

import shutil
import subprocess
import sys
from pathlib import Path

import kubernetes_validate
import yaml

HERE = Path(__file__).resolve().parent
SCHEMAS = "1.32"


def render(folder):
    """The manifests of a kustomization."""
    done = subprocess.run(["kubectl", "kustomize", str(folder)], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{folder}: {done.stderr}")
    return list(yaml.safe_load_all(done.stdout))


def the(manifests, kind):
    [found] = [manifest for manifest in manifests if manifest["kind"] == kind]
    return found


def containers(pod):
    return pod.get("initContainers", []) + pod["containers"]


def daemon(pod):
    [found] = [container for container in containers(pod) if container["name"] == "taxond"]
    return found


def environment(container):
    return {variable["name"]: variable["value"] for variable in container["env"]}


def is_restricted(pod):
    """The pod security standard `restricted`."""
    context = pod["securityContext"]
    assert context["runAsNonRoot"] is True and context["seccompProfile"]["type"] == "RuntimeDefault"
    assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys()
    for volume in pod.get("volumes", []):
        assert volume.keys() - {"name"} <= {"configMap", "emptyDir", "projected", "secret", "persistentVolumeClaim"}
    for container in containers(pod):
        own = container["securityContext"]
        assert own["allowPrivilegeEscalation"] is False and own["capabilities"] == {"drop": ["ALL"]}, container["name"]
        assert own["readOnlyRootFilesystem"] is True and not own.get("privileged"), container["name"]


def names_are_there(manifests):
    """What is referred to by name is there: ports, volumes, and the labels that select the pods."""
    set_ = the(manifests, "StatefulSet")
    pod, labels = set_["spec"]["template"]["spec"], set_["spec"]["template"]["metadata"]["labels"]
    ports = {port["name"] for container in containers(pod) for port in container.get("ports", [])}
    volumes = {volume["name"] for volume in pod.get("volumes", [])}
    volumes |= {claim["metadata"]["name"] for claim in set_["spec"]["volumeClaimTemplates"]}
    for container in containers(pod):
        assert {mount["name"] for mount in container["volumeMounts"]} <= volumes
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            handler = container.get(probe, {}).get("httpGet")
            assert handler is None or handler["port"] in {p["name"] for p in container["ports"]}
    policy = the(manifests, "NetworkPolicy")["spec"]
    used = {port["targetPort"] for port in the(manifests, "Service")["spec"]["ports"]}
    used |= {port["port"] for rule in policy["ingress"] for port in rule["ports"]}
    assert used <= ports, used - ports
    selectors = [
        set_["spec"]["selector"],
        the(manifests, "PodDisruptionBudget")["spec"]["selector"],
        policy["podSelector"],
    ]
    for selector in [*(s["matchLabels"] for s in selectors), the(manifests, "Service")["spec"]["selector"]]:
        assert selector and selector.items() <= labels.items(), selector


def one_daemon_owns_its_folder(manifests):
    spec = the(manifests, "StatefulSet")["spec"]
    assert spec["replicas"] == 1 and spec.get("updateStrategy", {}).get("type", "RollingUpdate") == "RollingUpdate"
    [claim] = spec["volumeClaimTemplates"]
    assert claim["spec"]["accessModes"] == ["ReadWriteOncePod"]
    container = daemon(spec["template"]["spec"])
    [mount] = [mount for mount in container["volumeMounts"] if mount["name"] == claim["metadata"]["name"]]
    assert mount["mountPath"] == environment(container)["TAXOND_DATA_DIR"]
    # The metrics are in the clear, beyond the machine, which the daemon does only when told so.
    assert environment(container)["TAXOND_INSECURE"] == "true"
    assert spec["template"]["spec"]["terminationGracePeriodSeconds"] >= 30


def probes(container, kind):
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert kind in container[probe] and len({"grpc", "httpGet"} & container[probe].keys()) == 1, probe


def base(pod, container):
    probes(container, "grpc")


def gpu(pod, container):
    base(pod, container)
    assert pod["runtimeClassName"] == "nvidia" and container["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert environment(container)["TAXOND_DEVICE"] == "cuda:0"


def tls(pod, container):
    told = environment(container)
    [folder] = [mount for mount in container["volumeMounts"] if mount["name"] == "tls"]
    assert folder["readOnly"]
    for name in ("TAXOND_TLS_CERT", "TAXOND_TLS_KEY", "TAXOND_TLS_CLIENT_CA"):
        assert Path(told[name]).parent == Path(folder["mountPath"])
    probes(container, "httpGet")


def sidecar(pod, container):
    told = environment(container)
    assert container in pod["initContainers"] and container["restartPolicy"] == "Always"
    assert told["TAXOND_LISTEN"] == "none"
    assert [port["name"] for port in container["ports"]] == ["metrics"]
    [application] = pod["containers"]
    assert environment(application)["TAXOND_ADDR"] == f"unix://{told['TAXOND_UNIX_SOCKET']}"
    for each in (container, application):
        [mount] = [mount for mount in each["volumeMounts"] if mount["name"] == "socket"]
        assert Path(told["TAXOND_UNIX_SOCKET"]).parent == Path(mount["mountPath"])
    probes(container, "httpGet")


OWN = {"base": base, "gpu": gpu, "tls": tls, "sidecar": sidecar}


def main():
    if shutil.which("kubectl") is None:
        sys.exit("kubectl is missing: install it (1.27 or later), for its kustomize")
    folders = [HERE / "base", *sorted((HERE / "overlays").iterdir())]
    assert {folder.name for folder in folders} == OWN.keys()
    for folder in folders:
        manifests = render(folder)
        for manifest in manifests:
            kubernetes_validate.validate(manifest, SCHEMAS, strict=True)
        pod = the(manifests, "StatefulSet")["spec"]["template"]["spec"]
        is_restricted(pod)
        names_are_there(manifests)
        one_daemon_owns_its_folder(manifests)
        OWN[folder.name](pod, daemon(pod))
        print(f"{folder.relative_to(HERE)}: {', '.join(manifest['kind'] for manifest in manifests)}")


if __name__ == "__main__":
    main()
