{{/*
The chart has no objects of its own. It reads those of k8s/ (a link in the source, files in a package), changes them by
values, and prints them. The helpers below change the object that they are given in place, and print nothing.
*/}}

{{/* files prints the objects of files: dict "root" $ "files" (list "k8s/base/kv.yaml" …) */}}
{{- define "headwater.files" -}}
{{- range $file := .files }}
{{- range $text := splitList "\n---\n" (required (printf "no %s" $file) ($.root.Files.Get $file)) }}
{{- $o := fromYaml (printf "%s\n" $text) }}
{{- if hasKey $o "Error" }}{{ fail (printf "%s: %s" $file $o.Error) }}{{ end }}
{{- if $o }}
{{- include "headwater.object" (dict "root" $.root "o" $o) }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{/* object changes one object by values and prints it, unless values leave it out. */}}
{{- define "headwater.object" -}}
{{- $values := .root.Values }}
{{- $o := .o }}
{{- $cluster := has $o.kind (list "PriorityClass" "ClusterRole" "ClusterRoleBinding") }}
{{- $scaled := or (ne $o.kind "HorizontalPodAutoscaler") $values.watchhub.autoscaling.enabled }}
{{- $left := or (and $cluster (not $values.clusterObjects)) (not $scaled) }}
{{- if not $left }}
{{- $labels := include "headwater.labels" .root | fromYaml }}
{{- $_ := set $labels "helm.sh/chart" (printf "%s-%s" .root.Chart.Name .root.Chart.Version) }}
{{- $_ = set $o.metadata "labels" (merge (dict) (default (dict) $o.metadata.labels) $labels) }}
{{- if not $cluster }}{{ $_ = set $o.metadata "namespace" .root.Release.Namespace }}{{ end }}
{{- if has $o.kind (list "Deployment" "StatefulSet") }}
{{- include "headwater.workload" . }}
{{- else if eq $o.kind "FoundationDBCluster" }}
{{- $place := printf "k8s/overlays/%s/foundationdb.yaml" $values.place }}
{{- $patch := .root.Files.Get $place | fromYaml }}
{{- $_ = set $o "spec" (mergeOverwrite $o.spec $patch.spec $values.foundationdb) }}
{{- else if eq $o.kind "FoundationDBBackup" }}
{{- $_ = set $o "spec" (mergeOverwrite $o.spec $values.backup.spec) }}
{{- else if eq $o.kind "HorizontalPodAutoscaler" }}
{{- include "headwater.autoscaler" . }}
{{- else if and (eq $o.kind "ConfigMap") (eq $o.metadata.name "nats") $values.nats.tls }}
{{- $_ = set $o "data" (.root.Files.Get "k8s/components/nats-tls/config.yaml" | fromYaml).data }}
{{- else if has $o.kind (list "RoleBinding" "ClusterRoleBinding") }}
{{- range $s := $o.subjects }}{{ $_ = set $s "namespace" $.root.Release.Namespace }}{{ end }}
{{- else if eq $o.kind "Gateway" }}
{{- $_ = set $o.spec "gatewayClassName" $values.gateway.className }}
{{- $_ = set (index (index $o.spec.listeners 0).tls.certificateRefs 0) "name" $values.gateway.certificate }}
{{- end }}
---
{{ toYaml $o }}
{{ end }}
{{- end }}

{{- define "headwater.labels" -}}
app.kubernetes.io/part-of: headwater
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{/* workload sets image, number, resources, spread and variables of what makes pods. */}}
{{- define "headwater.workload" -}}
{{- $values := .root.Values }}
{{- $o := .o }}
{{- $name := $o.metadata.name }}
{{- $pod := $o.spec.template.spec }}
{{- $c := index $pod.containers 0 }}
{{- $labels := include "headwater.labels" .root | fromYaml }}
{{- $_ := set $o.spec.template.metadata "labels" (merge (dict) $o.spec.template.metadata.labels $labels) }}
{{- $mine := index $values $name }}
{{- if not (and (eq $name "watchhub") $values.watchhub.autoscaling.enabled) }}
{{- $_ = set $o.spec "replicas" (int $mine.replicas) }}
{{- end }}
{{- with $values.imagePullSecrets }}
{{- $refs := list }}
{{- range . }}{{ $refs = append $refs (dict "name" .) }}{{ end }}
{{- $_ = set $pod "imagePullSecrets" $refs }}
{{- end }}
{{- if eq $values.place "prod" }}
{{- $_ = set (index $pod.topologySpreadConstraints 0) "whenUnsatisfiable" "DoNotSchedule" }}
{{- else if eq $values.place "one-zone" }}
{{- $_ = set (index $pod.topologySpreadConstraints 1) "whenUnsatisfiable" "DoNotSchedule" }}
{{- end }}
{{- if eq $name "nats" }}
{{- $_ = set $c "image" $values.nats.image }}
{{- if $values.nats.tls }}
{{- $patch := (.root.Files.Get "k8s/components/nats-tls/server.yaml" | fromYaml).spec.template.spec }}
{{- $_ = set $c "env" (concat (index $patch.containers 0).env $c.env) }}
{{- $_ = set $c "volumeMounts" (concat (index $patch.containers 0).volumeMounts $c.volumeMounts) }}
{{- $_ = set $pod "volumes" (concat $patch.volumes $pod.volumes) }}
{{- end }}
{{- else }}
{{- include "headwater.pod" . }}
{{- end }}
{{- end }}

{{/* pod is what workload does of our own pods alone. */}}
{{- define "headwater.pod" -}}
{{- $values := .root.Values }}
{{- $pod := .o.spec.template.spec }}
{{- $c := index $pod.containers 0 }}
{{- $mine := index $values .o.metadata.name }}
{{- $image := printf "%s:%s" $values.image.repository $values.image.tag }}
{{- with $values.image.digest }}{{ $image = printf "%s@%s" $values.image.repository . }}{{ end }}
{{- $_ := set $c "image" $image }}
{{- with $mine.resources }}{{ $_ = set $c "resources" . }}{{ end }}
{{- range $v := $c.env }}
{{- if and (eq $v.name "GOMEMLIMIT") $mine.goMemLimit }}{{ $_ = set $v "value" $mine.goMemLimit }}{{ end }}
{{- if and (eq $v.name "HEADWATER_ADVERTISE_CLIENT_URLS") $values.advertiseURL }}{{ $_ = set $v "value" $values.advertiseURL }}{{ end }}
{{- end }}
{{- if $values.nats.tls }}
{{- range $patch := .root.Files.Get "k8s/components/nats-tls/pods.yaml" | fromYamlArray }}
{{- if eq $patch.op "replace" }}
{{- $at := regexFind "[0-9]+/value$" $patch.path | trimSuffix "/value" | int }}
{{- $_ = set (index $c.env $at) "value" $patch.value }}
{{- else if and (eq $patch.op "add") (hasSuffix "/env/-" $patch.path) }}
{{- $_ = set $c "env" (append $c.env $patch.value) }}
{{- else if and (eq $patch.op "add") (hasSuffix "/volumeMounts/-" $patch.path) }}
{{- $_ = set $c "volumeMounts" (append $c.volumeMounts $patch.value) }}
{{- else if and (eq $patch.op "add") (hasSuffix "/volumes/-" $patch.path) }}
{{- $_ = set $pod "volumes" (append $pod.volumes $patch.value) }}
{{- else if ne $patch.op "test" }}
{{- fail (printf "nats-tls/pods.yaml: the chart does not know %s %s" $patch.op $patch.path) }}
{{- end }}
{{- end }}
{{- end }}
{{- $_ = set $c "env" (concat $c.env $mine.env) }}
{{- end }}

{{/* autoscaler sets the bounds of the hubs' autoscaler, and what it scales on. */}}
{{- define "headwater.autoscaler" -}}
{{- $a := .root.Values.watchhub.autoscaling }}
{{- $_ := set .o.spec "minReplicas" (int $a.minReplicas) }}
{{- $_ = set .o.spec "maxReplicas" (int $a.maxReplicas) }}
{{- if $a.streams }}
{{- $patch := .root.Files.Get "k8s/components/watch-streams/hpa.yaml" | fromYaml }}
{{- $_ = set (index $patch.spec.metrics 1).pods.target "averageValue" (toString $a.streams) }}
{{- $_ = set .o.spec "metrics" $patch.spec.metrics }}
{{- end }}
{{- end }}
