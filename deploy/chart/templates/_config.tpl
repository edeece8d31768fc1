{{- /* The files of the ConfigMap, as the values have them. */ -}}
{{- define "kube-ipvs.files" -}}
{{- $own := dict
  "apiVersion" "kubeproxy.config.k8s.io/v1alpha1"
  "kind" "KubeProxyConfiguration"
  "mode" "ipvs"
  "clientConnection" (dict "kubeconfig" "/var/lib/kube-proxy/kubeconfig.conf")
  "clusterCIDR" ""
  "ipvs" (dict "scheduler" "rr") }}
config.conf: |
  {{- merge (deepCopy .Values.config) $own | toYaml | nindent 2 }}
kubeconfig.conf: |
  apiVersion: v1
  kind: Config
  clusters:
    - name: default
      cluster:
        certificate-authority: /var/run/secrets/kubernetes.io/serviceaccount/ca.crt
        server: {{ .Values.apiServer }}
  contexts:
    - name: default
      context:
        cluster: default
        namespace: default
        user: default
  current-context: default
  users:
    - name: default
      user:
        tokenFile: /var/run/secrets/kubernetes.io/serviceaccount/token
{{- with .Values.externalAddresses }}
external-addresses.yaml: |
  apiVersion: kube-ipvs.io/v1alpha1
  kind: ExternalAddressPolicy
  namespaces: {{- toYaml . | nindent 4 }}
{{- end }}
{{- end }}
