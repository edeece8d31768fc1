/** What an image has in /usr/local/lib/kube-ipvs, whether the Dockerfile or scripts/image has made it: no more. */
const NETLINK = [
  'LICENSE',
  'package.json',
  'dist/constants.js',
  'dist/index.js',
  'dist/netlink.js',
  'dist/raw.js',
  'dist/structs.js',
  'dist/genl/genl.js',
  'dist/genl/structs.js',
  'dist/nl80211/nl80211.js',
  'dist/nl80211/structs.js',
  'dist/rt/gen_structs.js',
  'dist/rt/ifla.js',
  'dist/rt/rt.js',
  'dist/rt/structs.js',
  'dist/wg/structs.js',
  'dist/wg/wg.js',
]
const NODE_GYP_BUILD = [
  'LICENSE',
  'bin.js',
  'build-test.js',
  'index.js',
  'node-gyp-build.js',
  'optional.js',
  'package.json',
]

/** By Node's name of the architecture. */
export const filesOfImage = (cpu: string): string[] =>
  [
    'dist/kube-ipvs.cjs',
    'dist/main.cjs',
    'dist/main.compiled',
    'dist/page-thread.cjs',
    'dist/status/index.html',
    'dist/status/page.css',
    'dist/status/page.js',
    'native/binding.gyp',
    'native/build/Release/netlink_socket.node',
    'package.json',
    ...NETLINK.map((file) => `node_modules/netlink/${file}`),
    `node_modules/netlink/prebuilds/linux-${cpu}/node.napi.node`,
    ...NODE_GYP_BUILD.map((file) => `node_modules/node-gyp-build/${file}`),
  ].sort()
