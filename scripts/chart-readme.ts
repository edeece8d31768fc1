/** Writes deploy/chart/README.md: what each value is for, of values.yaml, and what it may be, of values.schema.json. */
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { format } from 'prettier'
import { isMap, isScalar, type Node, type Pair, parseDocument, type YAMLMap } from 'yaml'

const FOLDER = join(import.meta.dirname, '../deploy/chart')

interface Schema {
  readonly $ref?: string
  readonly title?: string
  readonly enum?: readonly unknown[]
  readonly allOf?: readonly Schema[]
  readonly properties?: Readonly<Record<string, Schema>>
  readonly definitions?: Readonly<Record<string, Schema>>
}

const read = (name: string): string => readFileSync(join(FOLDER, name), 'utf8')
const root = JSON.parse(read('values.schema.json')) as Schema

function resolve(schema: Schema | undefined): Schema {
  if (schema === undefined) throw new Error('values.yaml has a value that the schema does not have')
  if (schema.$ref === undefined) return schema
  return resolve(root.definitions?.[schema.$ref.replace('#/definitions/', '')])
}

function formatType({ title, enum: words }: Schema, path: string): string {
  if (title !== undefined) return title
  if (words === undefined) throw new Error(`${path} has neither a title nor words in the schema`)
  return words.map((word) => (word === '' ? 'empty' : `\`${String(word)}\``)).join(', ')
}

type Section = YAMLMap<Node>

/** The comment in front of a value; that of a section's first value is the section's own. */
function commentOf({ key }: Pair<Node>, section: Section): string {
  const [first] = section.items
  const comment = key.commentBefore ?? (first?.key === key ? section.commentBefore : undefined) ?? ''
  return comment
    .split('\n')
    .map((line) => line.trim())
    .join(' ')
}

/** The lines of a section: a value each, with the path above it. */
function describe(section: Section, schema: Schema, above = ''): string[] {
  const defaults = section.toJSON() as Record<string, unknown>
  return section.items.flatMap((pair) => {
    const { key, value } = pair
    const name = String(isScalar(key) ? key.value : key)
    const path = `${above}${name}`
    const own = resolve(schema.properties?.[name])
    const comment = commentOf(pair, section)
    if (isMap<Node>(value) && own.properties !== undefined && value.items.length > 0)
      return [...(comment === '' ? [] : [`- \`${path}\`: ${comment}`]), ...describe(value, own, `${path}.`)]
    if (comment === '') throw new Error(`${path} has no comment in values.yaml`)
    const text = JSON.stringify(defaults[name])
    return [`- \`${path}\` (${formatType(own, path)}; default \`${text}\`): ${comment}`]
  })
}

/** The README as it has to be. */
export async function chartReadme(): Promise<string> {
  const { contents } = parseDocument(read('values.yaml'))
  if (!isMap<Node>(contents)) throw new Error('values.yaml has no values')
  const text = `<!-- Made by scripts/chart-readme.ts of values.yaml and values.schema.json: change those. -->

${ABOUT}
${describe(contents, root).join('\n')}
`
  return format(text, { parser: 'markdown', printWidth: 120, proseWrap: 'always' })
}

const ABOUT = `# The chart

The manifests of \`deploy/base\` and \`deploy/overlays/replace-kube-proxy\`, for the same choices the same objects. A
recipe for each kind of cluster is in [docs/install.md](../../docs/install.md), what to do afterwards in
[docs/operations.md](../../docs/operations.md).

\`\`\`sh
# First, and kube-proxy kept to nodes with it (docs/install.md): a node without this label would have two proxies.
kubectl label nodes --all kube-ipvs.io/kube-proxy=true
helm install kube-ipvs deploy/chart -n kube-system --set image.repository=registry.example.com/kube-ipvs \\
  --set replaceKubeProxy=true
\`\`\`

Objects are called \`kube-ipvs\` whatever the release is called: two releases would be two proxies. A second release is
for a \`pool\`.

A value that is not in the list below, or not as it has to be, is refused before anything is sent, with its name. What
only the program sees, such as two networks of one family in \`clusterCIDR\`, it says when it starts:
\`kubectl -n kube-system logs ds/kube-ipvs -c init\`.

In a namespace other than \`kube-system\` the Pods may need its label \`pod-security.kubernetes.io/enforce=privileged\`.

## What an upgrade keeps

With \`replaceKubeProxy\` or \`existingConfigMap\` the ConfigMap is not the chart's, and is never touched. The one that is
made of \`config\` belongs to who edits it:

- While \`apiServer\`, \`config\` and \`externalAddresses\` are as they were at the last install or upgrade, an upgrade leaves
  the files in the ConfigMap as they are in the cluster: \`kubectl edit cm kube-ipvs\` is how the scheduler is switched,
  and another image must not switch it back. The annotation \`kube-ipvs.io/values\` tells.
- When one of them is another, the values win, and what was edited is gone. Helm 4, which applies on the server, may
  refuse that first, as somebody else's field: \`--force-conflicts\`.
- \`helm uninstall\`, and an upgrade to another ConfigMap, leave it behind: Pods that still run mount it.
- \`helm rollback\` brings back the files as they were in that revision.
- What renders without the cluster (\`helm template\`, Argo CD) cannot look: there the values always win.

\`helm uninstall\` ends the Pods, and changes nothing on their nodes: these serve on as they are, and follow no change
until another proxy runs. So kube-proxy comes first: the ways back are in [docs/install.md](../../docs/install.md).

Objects that \`kubectl apply -k\` has made are taken over with \`helm install --take-ownership\` (Helm 3.17 or later); a
ConfigMap that the chart makes, too, is then written from the values.

## Values
`

if (import.meta.main) writeFileSync(join(FOLDER, 'README.md'), await chartReadme())
