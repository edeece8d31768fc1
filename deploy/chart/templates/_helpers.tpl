{{- /* One name for all objects, whatever the release is called: a second release on the same nodes is refused. */ -}}
{{- define "kube-ipvs.name" -}}
kube-ipvs{{ with .Values.pool }}-{{ . }}{{ end }}
{{- end }}

{{- define "kube-ipvs.selector" -}}
app.kubernetes.io/name: kube-ipvs
{{- with .Values.pool }}
kube-ipvs.io/pool: {{ . | quote }}
{{- end }}
{{- end }}

{{- /* Labels that somebody else looks for, and the pool. */ -}}
{{- define "kube-ipvs.labels" -}}
{{- $labels := deepCopy (.more | default dict) }}
{{- with .Values.pool }}{{ $_ := set $labels "kube-ipvs.io/pool" . }}{{ end }}
{{- with $labels }}{{ toYaml . }}{{ end }}
{{- end }}

{{- define "kube-ipvs.image" -}}
{{- with .Values.image }}
{{- if .digest }}{{ .repository }}@{{ .digest }}{{ else }}{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}{{ end }}
{{- end }}
{{- end }}

{{- define "kube-ipvs.configMap" -}}
{{- if .Values.apiServer }}{{ include "kube-ipvs.name" . }}
{{- else if .Values.existingConfigMap }}{{ .Values.existingConfigMap }}
{{- else if and .Values.replaceKubeProxy (ne .Release.Namespace "kube-system") }}
{{- fail "replaceKubeProxy: kube-proxy's ConfigMap is in kube-system: install with -n kube-system, or give existingConfigMap or apiServer" }}
{{- else if .Values.replaceKubeProxy }}kube-proxy
{{- else }}{{ required "apiServer: give the URL of the API server, or existingConfigMap, or replaceKubeProxy" .Values.apiServer }}
{{- end }}
{{- end }}

{{- /* Where kube-proxy is a DaemonSet, as kubeadm has it, and does not keep to the label, nodes would have two proxies. */ -}}
{{- define "kube-ipvs.checkKubeProxy" -}}
{{- if and .Values.replaceKubeProxy (not .Values.apiServer) (not .Values.existingConfigMap) }}
{{- $there := lookup "apps/v1" "DaemonSet" "kube-system" "kube-proxy" }}
{{- if and $there (ne (dig "spec" "template" "spec" "nodeSelector" "kube-ipvs.io/kube-proxy" "" $there) "true") }}
{{- fail "replaceKubeProxy: kube-proxy's DaemonSet does not keep to nodes with kube-ipvs.io/kube-proxy=true: patch it as docs/install.md says; where something else keeps it off, give existingConfigMap: kube-proxy" }}
{{- end }}
{{- end }}
{{- end }}

{{- /* The port of an address of the configuration: the DaemonSet has to name it, too. */ -}}
{{- define "kube-ipvs.port" -}}
{{- $address := ternary (index .Values.config .field) "" (and (not (empty .Values.apiServer)) (hasKey .Values.config .field)) }}
{{- /* What follows the last colon of an IPv6 address without brackets is no port. */ -}}
{{- regexFind "(^[^:]*|\\]):[0-9]+$" ($address | default "") | regexFind "[0-9]+$" | default .port }}
{{- end }}

{{- /* The affinity, and in each of its terms that nodes which keep kube-proxy are none of ours. */ -}}
{{- define "kube-ipvs.affinity" -}}
{{- $affinity := deepCopy .Values.affinity }}
{{- if .Values.replaceKubeProxy }}
{{- $node := $affinity.nodeAffinity | default dict }}
{{- $required := $node.requiredDuringSchedulingIgnoredDuringExecution | default dict }}
{{- $keepsKubeProxy := dict "key" "kube-ipvs.io/kube-proxy" "operator" "NotIn" "values" (list "true") }}
{{- $terms := list }}
{{- range $required.nodeSelectorTerms | default (list dict) }}
{{- $terms = append $terms (set . "matchExpressions" (append (.matchExpressions | default list) $keepsKubeProxy)) }}
{{- end }}
{{- $_ := set $node "requiredDuringSchedulingIgnoredDuringExecution" (dict "nodeSelectorTerms" $terms) }}
{{- $_ := set $affinity "nodeAffinity" $node }}
{{- end }}
{{- with $affinity }}{{ toYaml . }}{{ end }}
{{- end }}
