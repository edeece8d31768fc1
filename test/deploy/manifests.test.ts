/** The manifests of deploy/: what the API's schemas say of them, what they refer to, and what the program relies on. */
import { readdirSync, readFileSync } from 'node:fs'
import { dirname } from 'node:path'
import { expect } from 'chai'
import { parseCommandLine } from '../../src/command-line.ts'
import { parseConfig } from '../../src/config/config.ts'
import { checkManifest } from '../support/api-types.ts'
import {
  type Manifest,
  manifestsOf,
  podCommand,
  type PodSpec,
  podSpec,
  podSpecOf,
  render,
} from '../support/deploy.ts'

const FOLDERS = ['deploy/base', ...readdirSync('deploy/overlays').map((name) => `deploy/overlays/${name}`)]
const COMPONENTS = readdirSync('deploy/components').map((name) => `deploy/components/${name}`)

describe('the manifests', () => {
  it('are refused by these tests when they are wrong', () => {
    const [daemonSet] = manifestsOf('deploy/base/daemonset.yaml')
    const typo = structuredClone(daemonSet) as unknown as {
      spec: { template: { spec: Record<string, unknown> } }
    }
    typo.spec.template.spec.hostNetwrok = true
    expect(() => checkManifest(typo as never)).to.throw('unknown fields')
    const wrong = structuredClone(daemonSet) as unknown as {
      spec: { template: { spec: Record<string, unknown> } }
    }
    wrong.spec.template.spec.hostNetwork = 'yes'
    expect(() => checkManifest(wrong as never)).to.throw('must be boolean')
  })

  for (const folder of FOLDERS) {
    it(`${folder} is what the API takes, and refers to what there is`, () => {
      const objects = render(folder)
      for (const object of objects) checkManifest(object)
      const named = (kind: string): string[] =>
        objects.filter((object) => object.kind === kind).map(({ metadata }) => metadata.name)
      const pod = podSpecOf(objects.find(({ kind }) => kind === 'DaemonSet')!)
      expect(named('ServiceAccount')).to.include(pod.serviceAccountName)
      const binding = objects.find(({ kind }) => kind === 'ClusterRoleBinding') as unknown as {
        roleRef: { name: string }
        subjects: { name: string }[]
      }
      expect(named('ClusterRole')).to.include(binding.roleRef.name)
      expect(named('ServiceAccount')).to.include(binding.subjects[0]!.name)
      // kubeadm's is there without us.
      const configMaps = pod.volumes.flatMap(({ configMap }) => configMap?.name ?? [])
      expect([...named('ConfigMap'), 'kube-proxy']).to.include.members(configMaps)
      for (const container of [...pod.initContainers, ...pod.containers]) {
        const volumes = pod.volumes.map(({ name }) => name)
        expect(volumes).to.include.members(container.volumeMounts.map(({ name }) => name))
      }
    })
  }

  it('with every component are what the API takes, and have the profiles of the node in the main container', () => {
    const daemonSet = render('deploy/base', ...COMPONENTS).find(({ kind }) => kind === 'DaemonSet')!
    checkManifest(daemonSet)
    const { initContainers, containers } = podSpecOf(daemonSet)
    expect(initContainers).to.deep.equal(podSpec().initContainers)
    expect(containers[0]!.securityContext).to.deep.equal({
      ...podSpec().containers[0]!.securityContext,
      seccompProfile: { type: 'Localhost', localhostProfile: 'kube-ipvs.json' },
      appArmorProfile: { type: 'Localhost', localhostProfile: 'kube-ipvs' },
    })
  })

  it('to replace kube-proxy use its ConfigMap', () => {
    const volumesOf = (folder: string): string[] =>
      podSpecOf(render(folder).find(({ kind }) => kind === 'DaemonSet')!).volumes.flatMap(
        ({ configMap }) => configMap?.name ?? [],
      )
    expect(volumesOf('deploy/base')).to.deep.equal(['kube-ipvs'])
    expect(volumesOf('deploy/overlays/replace-kube-proxy')).to.deep.equal(['kube-proxy'])
  })

  it('hold configurations that the program takes without a warning', () => {
    const [configMap] = manifestsOf('deploy/base/configmap.yaml') as unknown as [
      { data: Record<string, string> },
    ]
    for (const text of [
      configMap.data['config.conf']!,
      readFileSync('deploy/systemd/kube-proxy-config.yml', 'utf8'),
    ]) {
      const { config, warnings, unused } = parseConfig('config.conf', text)
      expect([...warnings, ...unused]).to.deep.equal([])
      expect(config.scheduler).to.equal('rr')
    }
  })
})

describe('the Pod that plans', () => {
  const [manifest] = manifestsOf('deploy/plan.yaml') as [Manifest]
  const spec = manifest.spec as PodSpec & { readonly restartPolicy: string }
  const [container] = spec.containers

  it('is what the API takes, and ends', () => {
    checkManifest(manifest)
    expect(spec.restartPolicy).to.equal('Never')
  })

  it('sees what the proxy would see: its network, its configuration, and as kubeadm lets kube-proxy read the API', () => {
    expect(spec).to.include({ hostNetwork: true, serviceAccountName: 'kube-proxy' })
    expect(container!.image).to.equal(podSpec().containers[0]!.image)
    expect(spec.volumes.map(({ configMap }) => configMap?.name)).to.include('kube-proxy')
    const args = container!.args.map((arg) => arg.replace('$(NODE_NAME)', 'node-7'))
    expect(parseCommandLine(['node', ...container!.command, ...args])).to.include({
      action: 'plan',
      configFile: '/var/lib/kube-proxy/config.conf',
      hostnameOverride: 'node-7',
    })
  })
})

describe('the DaemonSet', () => {
  const pod = podSpec()
  const [main] = pod.containers
  const [init] = pod.initContainers

  it('is on the network of the node, and the last to go', () => {
    expect(pod).to.include({ hostNetwork: true, priorityClassName: 'system-node-critical' })
  })

  it('has a main container without privileges, but for two capabilities', () => {
    expect(main!.securityContext).to.deep.include({
      allowPrivilegeEscalation: false,
      readOnlyRootFilesystem: true,
      capabilities: { drop: ['ALL'], add: ['NET_ADMIN', 'NET_RAW'] },
    })
    expect(main!.securityContext.privileged).to.equal(undefined)
  })

  it('runs the program with the ConfigMap, as the node that kubelet names', () => {
    const commandLine = parseCommandLine(['node', ...podCommand({ NODE_NAME: 'node-7' })])
    expect(commandLine).to.include({
      action: 'run',
      configFile: '/var/lib/kube-proxy/config.conf',
      hostnameOverride: 'node-7',
    })
  })

  it('has its logs shown without -c', () => {
    const [daemonSet] = manifestsOf('deploy/base/daemonset.yaml') as unknown as [
      { spec: { template: { metadata: { annotations: Record<string, string> } } } },
    ]
    const { annotations } = daemonSet.spec.template.metadata
    expect(annotations['kubectl.kubernetes.io/default-container']).to.equal(main!.name)
  })

  it('prepares the node in a container that ends', () => {
    expect(init!.args).to.include('--init-only')
    expect(init!.image).to.equal(main!.image)
    expect(main!.args).not.to.include('--init-only')
  })

  it('is asked for its health where the program has it by default', () => {
    const { config } = parseConfig(
      'config.conf',
      'apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\nmode: ipvs\n',
    )
    const { ports } = main as unknown as { ports: { name: string; containerPort: number }[] }
    const port = (address: string): number => Number(address.split(':').at(-1))
    expect(ports.map(({ name, containerPort }) => [name, containerPort])).to.deep.equal([
      ['healthz', port(config.healthzBindAddress)],
      ['metrics', port(config.metricsBindAddress)],
    ])
    for (const probe of ['startupProbe', 'livenessProbe', 'readinessProbe'] as const) {
      const { httpGet } = (
        main as unknown as Record<typeof probe, { httpGet: { path: string; port: string } }>
      )[probe]
      expect(httpGet.port, probe).to.equal('healthz')
      expect(['/healthz', '/livez'], probe).to.include(httpGet.path)
    }
  })

  it('sees changes of its ConfigMap: no part of it is mounted alone', () => {
    const config = main!.args.find((arg) => arg.startsWith('--config='))!.slice('--config='.length)
    const mount = main!.volumeMounts.find(({ mountPath }) => mountPath === dirname(config))
    expect(mount).to.deep.include({ name: 'config' })
    for (const { subPath } of main!.volumeMounts) expect(subPath).to.equal(undefined)
  })

  it('may do what the program does, and nothing else', () => {
    const role = manifestsOf('deploy/base/rbac.yaml').find(
      ({ kind }) => kind === 'ClusterRole',
    ) as unknown as {
      rules: { apiGroups: string[]; resources: string[]; verbs: string[] }[]
    }
    const granted = role.rules.flatMap(({ apiGroups, resources, verbs }) =>
      resources.flatMap((resource) => verbs.map((verb) => `${verb} ${apiGroups[0]}/${resource}`)),
    )
    expect(granted).to.have.members([
      'list /services',
      'watch /services',
      'list /nodes',
      'watch /nodes',
      'list discovery.k8s.io/endpointslices',
      'watch discovery.k8s.io/endpointslices',
      'list networking.k8s.io/servicecidrs',
      'watch networking.k8s.io/servicecidrs',
      'create events.k8s.io/events',
      'patch events.k8s.io/events',
    ])
  })
})
