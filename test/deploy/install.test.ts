/** docs/install.md stays true: its commands are ones that helm takes, and its links lead somewhere. */
import { execFileSync } from 'node:child_process'
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join, resolve } from 'node:path'
import { expect } from 'chai'
import { objectsIn } from '../support/chart.ts'
import { podSpecOf } from '../support/deploy.ts'

const PAGE = 'docs/install.md'
const TEXT = readFileSync(PAGE, 'utf8')
const PAGES = [PAGE, 'deploy/chart/README.md']

interface PodSpec {
  readonly nodeName: string
  readonly serviceAccountName: string
  readonly volumes: readonly { readonly configMap?: { readonly name: string } }[]
}

/** Each recipe's commands, one after the other. */
const recipes = TEXT.split(/^## /m)
  .slice(1)
  .map((part) => ({
    name: part.split('\n')[0]!,
    steps: [...part.matchAll(/^```sh\n([^]*?)^```$/gm)].map(([, text]) => text!).join('\n'),
  }))
const [before, ...clusters] = recipes

/**
 * Runs a recipe where all programs but helm do nothing. What helm would install, and what is applied, is printed.
 * Commands of other systems answer with a host, as those that are asked for one do.
 */
const STUBS = `
kubectl() { [[ $* != 'apply -f -' ]] || { echo ---; cat; }; }; systemctl() { :; }; aws() { echo https://192.0.2.1; }; az() { echo api.example.com; }
helm() { [[ $1 != install ]] || "$HELM" template "\${@:2}"; }
`

describe('docs/install.md', () => {
  const folder = mkdtempSync(join(tmpdir(), 'kube-ipvs-install-'))
  after(() => {
    rmSync(folder, { recursive: true })
  })

  function run(steps: string): string {
    const HELM = execFileSync('scripts/helm', { encoding: 'utf8' }).trim()
    const script = `${STUBS}\n${before!.steps}\n${steps}`.replaceAll('deploy/', `${resolve('deploy')}/`)
    return execFileSync('bash', ['-euo', 'pipefail', '-c', script], {
      cwd: folder,
      env: { PATH: process.env.PATH, HELM, HOME: folder },
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'ignore'],
    })
  }

  it('has a recipe for each kind of cluster', () => {
    expect(before!.name).to.equal('Before')
    expect(clusters.map(({ name }) => name)).to.deep.equal([
      'kubeadm',
      'kubespray',
      'k3s and RKE2',
      'EKS',
      'AKS',
    ])
  })

  for (const { name, steps } of clusters.filter((recipe) => recipe.steps !== '')) {
    it(`${name}: installs the image that was named, on no node that keeps kube-proxy`, () => {
      const objects = objectsIn(run(steps))
      const pod = podSpecOf(objects.find(({ kind }) => kind === 'DaemonSet')!)
      const [, image] = /export IMAGE=(\S+)/.exec(before!.steps)!
      expect(pod.containers[0]!.image).to.equal(image)
      expect(JSON.stringify(pod)).to.contain('"key":"kube-ipvs.io/kube-proxy","operator":"NotIn"')
      // Only kubeadm's ConfigMap is laid out as the program reads it.
      const own = objects.filter(({ kind }) => kind === 'ConfigMap').map(({ metadata }) => metadata.name)
      expect(own).to.deep.equal(name === 'kubeadm' ? [] : ['kube-ipvs'])
    })

    it(`${name}: labels every node before helm comes`, () => {
      const lines = steps
        .split('\n')
        .filter((line) => /^(kubectl label|helm|az aks update|aws eks)/.test(line))
      const first = lines.findIndex((line) => line.includes('label nodes --all kube-ipvs.io/kube-proxy=true'))
      expect(first).to.be.within(0, lines.findIndex((line) => line.startsWith('helm install')) - 1)
    })
  }

  it('looks first, where the chart makes the ConfigMap, with objects that the chart makes', () => {
    const objects = objectsIn(run(clusters.find(({ name }) => name === 'k3s and RKE2')!.steps))
    const { spec } = objects.find(({ kind }) => kind === 'Pod') as unknown as { spec: PodSpec }
    const made = objects.map(({ kind, metadata }) => `${kind}/${metadata.name}`)
    expect(made).to.include(`ServiceAccount/${spec.serviceAccountName}`)
    expect(made).to.include(`ConfigMap/${spec.volumes[0]!.configMap!.name}`)
    expect(spec.nodeName).to.equal('worker-1')
  })

  it('has every choice in the file of values, which an upgrade takes again', () => {
    const lines = TEXT.split('\n').filter((line) => /helm (install|upgrade) kube/.test(line))
    expect(lines).to.have.length(5)
    for (const line of lines) expect(line).to.match(/deploy\/chart -n kube-system -f my-values.yaml(`|$)/)
  })

  it('says of each cluster whether it has been tried', () => {
    for (const part of TEXT.split(/^## /m).slice(2)) {
      const isKubeadm = part.startsWith('kubeadm\n')
      expect(part.includes('_Not tried._'), part.split('\n')[0]).to.equal(!isKubeadm)
    }
  })

  for (const page of PAGES)
    it(`${page} has links that lead somewhere`, () => {
      const links = [...readFileSync(page, 'utf8').matchAll(/\]\(([^)#]*)(?:#([^)]+))?\)/g)]
      expect(links).not.to.be.empty
      for (const [link, path, anchor] of links) {
        const file = path === '' ? page : join(dirname(page), path!)
        expect(existsSync(file), link).to.equal(true)
        if (anchor === undefined) continue
        const anchors = [...readFileSync(file, 'utf8').matchAll(/^#+ (.+)$/gm)].map(([, title]) =>
          title!
            .toLowerCase()
            .replaceAll(/[^\w -]/g, '')
            .replaceAll(' ', '-'),
        )
        expect(anchors, link).to.include(anchor)
      }
    })
})
