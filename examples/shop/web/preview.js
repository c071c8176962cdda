// What is running here: read from the environment, shown at the foot of each page. Whoever opened
// the pull request chose these texts.
'use strict';

const { oneLine } = require('./html.js');

function preview(env) {
  const number = /^[0-9]{1,10}$/.test(env.MAQUETTE_PULL_REQUEST || '') ? env.MAQUETTE_PULL_REQUEST : '';
  const commit = /^[0-9a-f]{7,64}$/.test(env.MAQUETTE_COMMIT || '') ? env.MAQUETTE_COMMIT.slice(0, 10) : '';
  const branch = oneLine(env.MAQUETTE_BRANCH || '', 60);
  const title = oneLine(env.MAQUETTE_TITLE || '', 100);
  return { number, commit, branch, title, local: !number && !commit && !branch };
}

module.exports = { preview };
