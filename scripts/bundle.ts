/**
 * Bundles the program, the thread that reads lists and the status page into dist/: without what they do not use of their
 * packages; and writes the manual page beside them.
 *   node scripts/bundle.ts                the program
 *   node scripts/bundle.ts FILE ...       other files, into .cache/bundles
 */
import { execFileSync } from 'node:child_process'
import { mkdirSync, rmSync, writeFileSync } from 'node:fs'
import Module from 'node:module'
import { relative } from 'node:path'
import {
  build as bundle,
  type BuildOptions,
  type Metafile,
  type OnResolveArgs,
  type Plugin,
  type PluginBuild,
  type ResolveResult,
} from 'esbuild'
import packageJson from '../package.json' with { type: 'json' }
import { bundlePage } from './bundle-page.ts'

/** What esbuild itself finds, for a plugin that changes it; undefined when it is the plugin's own question. */
async function find(
  build: PluginBuild,
  { path, pluginData, ...context }: OnResolveArgs,
): Promise<ResolveResult | undefined> {
  return pluginData === 'asked' ? undefined : build.resolve(path, { ...context, pluginData: 'asked' })
}

/** client-node does not say that its 1,500 generated files have no side effects; unused ones may go. */
const shakeClientNode: Plugin = {
  name: 'shake-client-node',
  setup(build) {
    build.onResolve({ filter: /^(@kubernetes\/client-node$|\.)/ }, async (asked) => {
      const found = await find(build, asked)
      return found?.path.includes('/@kubernetes/client-node/') ? { ...found, sideEffects: false } : found
    })
  },
}

/**
 * client-node loads undici, and socks for it, for requests that we do not make through it (ours go through
 * node:https): 1.5 MB that would be read at every start. Whoever calls it after all is told so.
 */
const withoutUndici: Plugin = {
  name: 'without-undici',
  setup(build) {
    build.onResolve({ filter: /^(undici|socks)$/ }, ({ path, importer }) =>
      importer.includes('/@kubernetes/client-node/') ? { path, namespace: 'without-undici' } : undefined,
    )
    build.onLoad({ filter: /./, namespace: 'without-undici' }, () => ({
      contents: `const absent = () => { throw new Error('undici is not part of the bundle') }
        export { absent as Agent, absent as ProxyAgent, absent as fetch, absent as FormData, absent as SocksClient }`,
    }))
  },
}

/** Functions and classes that hardly anyone calls, by their module: the member that is one, or '' for the module itself. */
const LATE: Readonly<Record<string, string>> = {
  // For a proxy before the API server that speaks SOCKS.
  'socks-proxy-agent': '.SocksProxyAgent',
  // For the interface, which is asked for when the first requests are on their way.
  'netlink/dist/rt/rt.js': '.createRtNetlink',
  // For pino's transports.
  'thread-stream': '',
  assert: '',
}

/** What is late is loaded when it is called. */
const late: Plugin = {
  name: 'late',
  setup(build) {
    const filter = new RegExp(`^(${Object.keys(LATE).join('|')})$`)
    build.onResolve({ filter }, async (asked) => {
      const found = await find(build, asked)
      const file = found?.external ? `node:${asked.path}` : found?.path
      return found && { path: asked.path, namespace: 'late', pluginData: file }
    })
    build.onLoad({ filter: /./, namespace: 'late' }, ({ path, pluginData }) => ({
      contents: `module.exports${LATE[path]!} = function (...given) {
        const it = require(${JSON.stringify(pluginData)})${LATE[path]!}
        return new.target ? new it(...given) : it(...given)
      }`,
      resolveDir: import.meta.dirname,
    }))
  },
}

/** Of the package netlink only its addon, and what loads it, stays outside: a file takes longer to find than to run. */
const netlinkAddonOutside: Plugin = {
  name: 'netlink-addon-outside',
  setup(build) {
    build.onResolve({ filter: /^\.\/raw$/ }, ({ importer }) =>
      importer.includes('/node_modules/netlink/')
        ? { path: 'netlink/dist/raw.js', external: true }
        : undefined,
    )
  },
}

/**
 * CommonJS, for the sake of the start: importing node:http as an ES module makes Node load its whole fetch.
 */
const OPTIONS: BuildOptions = {
  bundle: true,
  platform: 'node',
  format: 'cjs',
  target: 'node22',
  outExtension: { '.js': '.cjs' },
  external: ['node-gyp-build'],
  plugins: [withoutUndici, late, netlinkAddonOutside, shakeClientNode],
  define: {
    'import.meta.dirname': '__dirname',
    'import.meta.filename': '__filename',
    'import.meta.url': '__filename',
  },
  sourcemap: true,
  legalComments: 'none',
  logLevel: 'warning',
}

/** The few other characters, in comments and patterns, as escapes: Node keeps the text in half the memory. */
function ascii(text: string): string {
  return text.replaceAll(/[^\0-\x7f]/g, (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`)
}

const MAIN = 'dist/main.cjs'
const ENTRIES = {
  'kube-ipvs': 'src/start.ts',
  main: 'src/main.ts',
  'page-thread': 'src/source/pages/page-thread.ts',
}

/** Of the same table of commands and flags as the program. */
async function manualPage(): Promise<string> {
  const [{ SYNTAX }, { formatManual }] = await Promise.all([
    import('../src/commands/commands.ts'),
    import('../src/commands/syntax/manual.ts'),
  ])
  return formatManual(SYNTAX, packageJson.version)
}

/** Folders of the packages of which something is in these bundles: their licences go with the image. */
function packagesIn(...metafiles: readonly Metafile[]): string[] {
  const outputs = metafiles.flatMap((metafile) => Object.values(metafile.outputs))
  const files = outputs.flatMap(({ inputs }) =>
    Object.keys(inputs).filter((input) => inputs[input]!.bytesInOutput > 0),
  )
  const folders = files.flatMap(
    (file) => /^.*node_modules\/(?:@[^/]+\/)?[^/]+(?=\/)/.exec(file.replace(/^.*?:/, ''))?.[0] ?? [],
  )
  return [...new Set(folders)].sort()
}

async function bundleProgram(): Promise<void> {
  const { outputFiles, metafile } = await bundle({
    ...OPTIONS,
    entryPoints: ENTRIES,
    outdir: 'dist',
    write: false,
    metafile: true,
  })
  const texts = new Map(outputFiles.map(({ path, text }) => [relative('.', path), ascii(text)]))
  texts.set(MAIN, Module.wrap(texts.get(MAIN)!))
  rmSync('dist', { recursive: true, force: true })
  mkdirSync('dist')
  for (const [path, text] of texts) writeFileSync(path, text, { mode: text.startsWith('#!') ? 0o755 : 0o644 })
  execFileSync(process.execPath, ['--random-seed=1', 'scripts/compile.ts', MAIN, 'dist/main.compiled'])
  writeFileSync('dist/kube-ipvs.8', await manualPage())
  mkdirSync('dist/status')
  const page = await bundlePage()
  for (const [name, text] of Object.entries(page.files)) writeFileSync(`dist/status/${name}`, text)
  writeFileSync(
    'dist/packages.json',
    JSON.stringify(packagesIn(metafile, page.metafile), undefined, 2) + '\n',
  )
}

const others = process.argv.slice(2)
if (others.length === 0) await bundleProgram()
// For the lab, where loading many files takes longer than running them.
else await bundle({ ...OPTIONS, entryPoints: others, entryNames: '[name]', outdir: '.cache/bundles' })
