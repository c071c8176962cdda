// Shows the steps of an order as they happen. Without this script the page says the same when reloaded.
'use strict';

const progress = document.getElementById('progress');
const events = new EventSource(progress.dataset.events);
events.addEventListener('progress', (event) => { progress.innerHTML = JSON.parse(event.data); });
events.addEventListener('end', () => events.close());
